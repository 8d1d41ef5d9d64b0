// SPDX-License-Identifier: MIT
//
// Definitions: apply, remove, show.  Every file is read here first, so that
// what is wrong is named with file, line and column and nothing is sent if any
// is.

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "proto/setdef.h"
#include "proto/text.h"
#include "proto/yaml.h"

typedef struct file {
    const char *path;
    char *text;
    size_t size;
    fleet_name_t set;
    uint32_t addresses_n;
    fleet_address_item_t addresses[FLEET_ADDRESSES_MAX];
} file_t;

// The line of a file where a word stands first, outside of comments; 0:
// nowhere.
static unsigned line_of(const file_t *file, const char *word, size_t length) {
    unsigned line = 1;

    for (const char *at = file->text; *at != '\0'; line++) {
        size_t size = strcspn(at, "\n");
        size_t code = strcspn(at, "#\n");

        if (memmem(at, code, word, length) != NULL) {
            return line;
        }
        at += size + (at[size] == '\n');
    }
    return 0;
}

// "www.yaml:27: ..." where the text names an address of the file.
static void add_place(const file_t *file, fleet_reason_t *reason) {
    fleet_text_t text;
    unsigned line = 0;

    FLEET_COPY(text, reason->text);
    for (const char *at = text; *at != '\0' && line == 0;) {
        size_t size = strcspn(at, " ");
        size_t host = strcspn(at, " /");

        if (host > 3 && strpbrk(at, ".:") != NULL &&
            strpbrk(at, ".:") < at + host) {
            line = line_of(file, at, host);
        }
        at += size + (at[size] == ' ');
    }
    if (line > 0) {
        FLEET_FORMAT(reason->text, "%s:%u: %s", file->path, line, text);
    } else {
        FLEET_FORMAT(reason->text, "%s: %s", file->path, text);
    }
}

static json_t *complaints_json(const char *path,
                               const fleet_complaints_t *complaints) {
    json_t *list = json_array();

    for (uint32_t i = 0; i < complaints->n; i++) {
        const fleet_complaint_t *complaint = &complaints->items[i];
        json_t *object = json_object();
        fleet_text_t file;

        FLEET_COPY(file, path);
        json_object_set_new(object, "file", json_string(file));
        json_object_set_new(object, "line",
                            complaint->line > 0 ? json_integer(complaint->line)
                                                : json_null());
        json_object_set_new(object, "column",
                            complaint->column > 0
                                ? json_integer(complaint->column)
                                : json_null());
        json_object_set_new(object, "text", json_string(complaint->text));
        json_object_set_new(object, "hint", fleet_text_json(complaint->hint));
        json_array_append_new(list, object);
    }
    return list;
}

static bool read_file(file_t *file, fleet_complaints_t *complaints) {
    fleet_setdef_t *setdef = calloc(1, sizeof(*setdef));
    fleet_err_t err;

    assert(setdef != NULL);
    err = fleet_yaml_read_file(file->path, FLEET_YAML_MAX, &file->text,
                               &file->size, complaints);
    if (err == FLEET_OK) {
        err = fleet_setdef_read(file->text, file->size, setdef, complaints);
    }
    if (err == FLEET_OK) {
        FLEET_COPY(file->set, setdef->set);
        file->addresses_n = setdef->facts.addresses_n;
        memcpy(file->addresses, setdef->facts.addresses,
               sizeof(file->addresses));
    }
    free(setdef);
    return err == FLEET_OK;
}

static bool same_host(const char *one, const char *two) {
    size_t size = strcspn(one, "/");

    return size == strcspn(two, "/") && strncmp(one, two, size) == 0;
}

static bool share_address(const file_t *one, const file_t *two,
                          fleet_reason_t *ret_reason) {
    for (uint32_t i = 0; i < one->addresses_n; i++) {
        const char *address = one->addresses[i].address;

        for (uint32_t j = 0; j < two->addresses_n; j++) {
            if (same_host(address, two->addresses[j].address)) {
                fleet_reason_make(ret_reason, FLEET_BAD_FILE,
                                  "%s:%u: %s has %s already (%s:%u); nothing "
                                  "was applied",
                                  two->path,
                                  line_of(two, address, strcspn(address, "/")),
                                  one->set, address, one->path,
                                  line_of(one, address, strcspn(address, "/")));
                return true;
            }
        }
    }
    return false;
}

// What is wrong between the files: one set defined twice, an address used
// twice.
static bool check_doubles(const file_t *files, size_t n,
                          fleet_reason_t *ret_reason) {
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < i; j++) {
            if (strcmp(files[i].set, files[j].set) == 0) {
                fleet_reason_make(ret_reason, FLEET_BAD_FILE,
                                  "%s and %s both define %s; nothing was "
                                  "applied",
                                  files[j].path, files[i].path, files[i].set);
                return false;
            }
            if (share_address(&files[j], &files[i], ret_reason)) {
                return false;
            }
        }
    }
    return true;
}

static int some_are_wrong(cli_t *cli, size_t n, size_t good, const char *first,
                          json_t *complaints) {
    json_t *document = cli_document_new(cli);
    fleet_reason_t reason;

    if (n == 1) {
        fputs("nothing was applied\n", stderr);
    } else {
        fprintf(stderr, "nothing was applied (%zu of %zu files are good)\n",
                good, n);
    }
    fleet_reason_make(&reason, FLEET_BAD_FILE, "%s", first);
    json_object_set_new(document, "error", fleet_reason_json(&reason));
    json_object_set_new(document, "complaints", complaints);
    return cli_document(cli, document, fleet_error_spec(FLEET_BAD_FILE)->exit);
}

// Reads all files and says all that is wrong; 0 if nothing is.
static int read_files(cli_t *cli, file_t *files, size_t n) {
    fleet_complaints_t *complaints = calloc(1, sizeof(*complaints));
    json_t *all = json_array();
    fleet_reason_t reason;
    char first[1024] = "";
    size_t good = 0;

    assert(complaints != NULL);
    for (size_t i = 0; i < n; i++) {
        memset(complaints, 0, sizeof(*complaints));
        files[i].path = cli->args.words[i];
        if (read_file(&files[i], complaints)) {
            good++;
            continue;
        }
        json_t *list = complaints_json(files[i].path, complaints);

        fleet_complaints_print(complaints, files[i].path, stderr);
        if (first[0] == '\0') {
            fleet_complaint_print(&complaints->items[0], files[i].path, first,
                                  sizeof(first));
        }
        json_array_extend(all, list);
        json_decref(list);
    }
    free(complaints);
    if (good < n) {
        return some_are_wrong(cli, n, good, first, all);
    }
    json_decref(all);
    if (!check_doubles(files, n, &reason)) {
        return cli_fail(cli, &reason);
    }
    return EXIT_OK;
}

// ------------------------------------------------------------------------
// apply

static void print_applied(const cli_t *cli, const fleet_applied_t *applied) {
    bool dry = cli_have(cli, FLAG_DRY_RUN);
    FILE *out = cli->out;

    if (!applied->changed) {
        fprintf(out, "set %s is as it was (revision %" PRIu64 ")\n",
                applied->set, applied->rev);
        return;
    }
    if (applied->is_new) {
        fprintf(out, "set %s %s.  Nothing is started yet.\n", applied->set,
                dry ? "would be new" : "is new");
    } else {
        fprintf(out, "set %s %s (revision %" PRIu64 ")\n", applied->set,
                dry ? "would change" : "is changed", applied->rev);
    }
    if (applied->diff[0] != '\0') {
        fputs("  ", out);
        cli_print_wrapped(out, 2, 2, applied->diff);
    }
    if (applied->pending) {
        fprintf(out,
                "  it runs by its older definition until its next start\n");
    }
    if (applied->is_new && !dry) {
        fprintf(out, "Next: fleet check %s, then fleet start %s\n",
                applied->set, applied->set);
    }
}

static json_t *applied_json(const fleet_applied_t *applied) {
    json_t *object = json_object();

    json_object_set_new(object, "set", json_string(applied->set));
    json_object_set_new(object, "new", json_boolean(applied->is_new));
    json_object_set_new(object, "changed", json_boolean(applied->changed));
    json_object_set_new(object, "pending", json_boolean(applied->pending));
    json_object_set_new(object, "rev", json_integer((json_int_t)applied->rev));
    json_object_set_new(object, "diff", fleet_text_json(applied->diff));
    return object;
}

// What the broker does not admit is wrong in the file, and named by its line.
static int apply_refused(cli_t *cli, const file_t *file,
                         fleet_message_t *answer, json_t *document) {
    char what[128];
    int status;

    if (answer->type == FLEET_MESSAGE_refused) {
        for (uint32_t i = 0; i < answer->refused.reasons_n; i++) {
            add_place(file, &answer->refused.reasons[i]);
        }
    }
    snprintf(what, sizeof(what), "apply %s", file->path);
    status = cli_say_refused(cli, what, answer, document);
    return status == EXIT_NO ? fleet_error_spec(FLEET_BAD_FILE)->exit : status;
}

// One file; adds to the list of what was applied.
static int apply_file(cli_t *cli, const file_t *file, json_t *document,
                      json_t *list) {
    fleet_message_t *message = calloc(2, sizeof(*message));
    fleet_message_t *answer = &message[1];
    fleet_err_t err;
    int status = EXIT_OK;

    assert(message != NULL);
    message->type = FLEET_MESSAGE_apply;
    fleet_client_id(message->apply.request);
    message->apply.dry_run = cli_have(cli, FLAG_DRY_RUN);
    FLEET_COPY(message->apply.yaml, file->text);
    err = fleet_client_request(cli->client, message, 0, answer);
    if (err != FLEET_OK) {
        status =
            cli_lost(cli, err, message->apply.request, json_incref(document));
    } else if (answer->type == FLEET_MESSAGE_applied) {
        print_applied(cli, &answer->applied);
        json_array_append_new(list, applied_json(&answer->applied));
    } else {
        status = apply_refused(cli, file, answer, json_incref(document));
    }
    free(message);
    return status;
}

int cmd_apply(cli_t *cli) {
    size_t n = (size_t)cli->args.words_n;
    file_t *files = calloc(n, sizeof(*files));
    json_t *document = NULL;
    json_t *list = NULL;
    int status;

    assert(files != NULL);
    status = read_files(cli, files, n);
    status = status == EXIT_OK ? cli_connect(cli) : status;
    if (status == EXIT_OK) {
        document = cli_document_new(cli);
        list = json_array();
        json_object_set_new(document, "applied", list);
        for (size_t i = 0; i < n && status == EXIT_OK; i++) {
            status = apply_file(cli, &files[i], document, list);
        }
        if (status == EXIT_OK) {
            status = cli_document(cli, json_incref(document), EXIT_OK);
        }
        json_decref(document);
    }
    for (size_t i = 0; i < n; i++) {
        free(files[i].text);
    }
    free(files);
    return status;
}

// -----------------------------------------------------------------------
// remove

int cmd_remove(cli_t *cli) {
    fleet_message_t *message = calloc(2, sizeof(*message));
    fleet_message_t *answer;
    fleet_request_t *request;
    json_t *document;
    char text[128];
    fleet_err_t err;
    int status;

    assert(message != NULL);
    answer = &message[1];
    request = &message->request;
    message->type = FLEET_MESSAGE_request;
    request->verb = fleet_verb_REMOVE;
    FLEET_COPY(request->reason,
               cli->args.reason != NULL ? cli->args.reason : "");
    if (cli->args.request != NULL) {
        FLEET_COPY(request->request, cli->args.request);
    } else {
        fleet_client_id(request->request);
    }
    status = cli_take_name(cli, cli->args.words[0], "set", &request->set);
    if (status == EXIT_OK) {
        snprintf(text, sizeof(text), "Forget the set %s?", request->set);
        status = cli_confirm(cli, text);
    }
    status = status == EXIT_OK ? cli_connect(cli) : status;
    if (status == EXIT_OK) {
        document = cli_document_new(cli);
        json_object_set_new(document, "set", json_string(request->set));
        err = fleet_client_request(cli->client, message, 0, answer);
        if (err != FLEET_OK) {
            status = cli_lost(cli, err, request->request, document);
        } else if (answer->type == FLEET_MESSAGE_done) {
            fprintf(cli->out, "set %s is removed; its tokens are remembered\n",
                    request->set);
            json_object_set_new(document, "changed",
                                json_boolean(answer->done.changed));
            status = cli_document(cli, document, EXIT_OK);
        } else {
            snprintf(text, sizeof(text), "remove %s", request->set);
            status = cli_say_refused(cli, text, answer, document);
        }
    }
    free(message);
    return status;
}

// -------------------------------------------------------------------------
// show

static void on_definition(void *context, const fleet_parcel_t *row) {
    fleet_definition_t *definition = context;

    if (row != NULL && row->message.type == FLEET_MESSAGE_definition) {
        *definition = row->message.definition;
    }
}

int cmd_show(cli_t *cli) {
    fleet_definition_t *definition = calloc(1, sizeof(*definition));
    fleet_message_t question = {.type = FLEET_MESSAGE_show_ask};
    json_t *document;
    fleet_end_t end;
    fleet_reason_t reason;
    fleet_err_t err;
    int status =
        cli_take_name(cli, cli->args.words[0], "set", &question.show_ask.set);

    assert(definition != NULL);
    status = status == EXIT_OK ? cli_connect(cli) : status;
    if (status == EXIT_OK) {
        err = fleet_client_ask(cli->client, &question, on_definition,
                               definition, &end, &reason);
        if (err != FLEET_OK) {
            status =
                cli_interrupted ? EXIT_INTERRUPTED : cli_fail(cli, &reason);
        } else if (cli_have(cli, FLAG_JSON)) {
            document = cli_document_new(cli);
            json_object_set_new(document, "set", json_string(definition->set));
            json_object_set_new(document, "rev",
                                json_integer((json_int_t)definition->rev));
            json_object_set_new(document, "yaml",
                                json_string(definition->yaml));
            status = cli_document(cli, document, EXIT_OK);
        } else {
            fputs(definition->yaml, stdout);
        }
    }
    free(definition);
    return status;
}
