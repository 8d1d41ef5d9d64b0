// SPDX-License-Identifier: MIT
//
// Keys: make one offline, list, admit and revoke them at the broker.

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/screen.h"
#include "proto/text.h"

int cmd_keys_make(cli_t *cli) {
    const char *path = cli->args.words[0];
    fleet_key_pair_t pair;
    fleet_text_t why = "";
    fleet_reason_t reason;
    json_t *document;
    char digits[65];
    fleet_err_t err;

    fleet_key_pair_make(&pair);
    err = fleet_key_file_write(path, &pair, why);
    fleet_key_print(pair.public_key, digits);
    fleet_key_pair_wipe(&pair);
    if (err != FLEET_OK) {
        fleet_reason_make(&reason, err, "%s", why);
        return cli_fail(cli, &reason);
    }
    fprintf(cli->out, "%s\n", digits);
    document = cli_document_new(cli);
    json_object_set_new(document, "key", json_string(digits));
    return cli_document(cli, document, EXIT_OK);
}

// -------------------------------------------------------------------------
// list

typedef struct keys {
    size_t n;
    size_t max;
    fleet_key_row_t *items;
} keys_t;

static void on_key(void *context, const fleet_parcel_t *row) {
    keys_t *keys = context;

    if (row == NULL) {
        keys->n = 0;
        return;
    }
    if (row->message.type != FLEET_MESSAGE_key_row) {
        return;
    }
    if (keys->n == keys->max) {
        keys->max = keys->max * 2 + 16;
        keys->items = realloc(keys->items, keys->max * sizeof(*keys->items));
        assert(keys->items != NULL);
    }
    keys->items[keys->n++] = row->message.key_row;
}

static int by_role_and_name(const void *a, const void *b) {
    const fleet_key_row_t *one = a;
    const fleet_key_row_t *two = b;
    int order = strcmp(one->name, two->name);

    return order != 0 ? order : memcmp(one->key, two->key, FLEET_KEY_SIZE);
}

// Asks for all keys; the caller frees ret_keys->items.
static int ask_keys(cli_t *cli, keys_t *ret_keys) {
    fleet_message_t question = {.type = FLEET_MESSAGE_keys_ask};
    fleet_end_t end;
    int status = cli_ask(cli, &question, on_key, ret_keys, &end);

    if (ret_keys->n > 1) {
        qsort(ret_keys->items, ret_keys->n, sizeof(*ret_keys->items),
              by_role_and_name);
    }
    return status;
}

static void add_key(screen_t *screen, json_t *list,
                    const fleet_key_row_t *row) {
    json_t *object = json_object();
    char digits[65];
    char time[32];

    fleet_key_print(row->key, digits);
    fleet_time_print(row->since_us, time);
    json_object_set_new(object, "name", json_string(row->name));
    json_object_set_new(object, "role",
                        json_string(fleet_role_word(row->role)));
    json_object_set_new(object, "key", json_string(digits));
    json_object_set_new(object, "since", fleet_time_json(row->since_us));
    json_array_append_new(list, object);
    if (strlen(time) > 10) {
        time[10] = '\0';
    }
    digits[8] = '\0';
    screen_add(screen, (const char *[]){row->name, fleet_role_word(row->role),
                                        digits, time});
}

int cmd_keys_list(cli_t *cli) {
    static const char *const heads[] = {"NAME", "ROLE", "KEY", "SINCE", NULL};
    keys_t keys = {0};
    screen_t *screen;
    json_t *document;
    json_t *list;
    int status = cli_connect(cli);

    status = status == EXIT_OK ? ask_keys(cli, &keys) : status;
    if (status == EXIT_OK) {
        screen = screen_new(heads);
        document = cli_document_new(cli);
        list = json_array();
        for (size_t i = 0; i < keys.n; i++) {
            add_key(screen, list, &keys.items[i]);
        }
        json_object_set_new(document, "keys", list);
        if (!cli_have(cli, FLAG_JSON)) {
            screen_print(screen, cli->out, cli->width);
        }
        screen_destroy(&screen);
        status = cli_document(cli, document, EXIT_OK);
    }
    free(keys.items);
    return status;
}

// -------------------------------------------------------------- admit and
// revoke

static int change(cli_t *cli, fleet_key_change_t *wish, const char *what) {
    fleet_message_t *message = calloc(2, sizeof(*message));
    fleet_message_t *answer = &message[1];
    json_t *document;
    fleet_err_t err;
    int status;

    assert(message != NULL);
    if (cli->args.request != NULL) {
        FLEET_COPY(wish->request, cli->args.request);
    } else {
        fleet_client_id(wish->request);
    }
    message->type = FLEET_MESSAGE_key_change;
    message->key_change = *wish;
    err = fleet_client_request(cli->client, message, 0, answer);
    document = cli_document_new(cli);
    if (err != FLEET_OK) {
        status = cli_lost(cli, err, wish->request, document);
    } else if (answer->type == FLEET_MESSAGE_done) {
        cli_print_wrapped(cli->out, 0, 0,
                          answer->done.text[0] != '\0' ? answer->done.text
                                                       : "done");
        json_object_set_new(document, "changed",
                            json_boolean(answer->done.changed));
        json_object_set_new(document, "text",
                            fleet_text_json(answer->done.text));
        status = cli_document(cli, document, EXIT_OK);
    } else {
        status = cli_say_refused(cli, what, answer, document);
    }
    free(message);
    return status;
}

int cmd_keys_admit(cli_t *cli) {
    const char *const *words = cli->args.words;
    fleet_key_change_t wish = {.admit = true};
    char what[128];
    int status;

    if (!fleet_role_find(words[0], &wish.role) ||
        wish.role == fleet_role_NONE) {
        return cli_complain(cli, FLEET_BAD_ARGUMENT,
                            "\"%.64s\" is no role: node operator monitor admin",
                            words[0]);
    }
    status = cli_take_name(cli, words[1], "key's holder", &wish.name);
    if (status != EXIT_OK) {
        return status;
    }
    if (!fleet_key_parse(words[2], wish.key)) {
        return cli_complain(cli, FLEET_BAD_ARGUMENT,
                            "\"%.80s\" is no public key: 64 hex digits, as "
                            "fleet keys make prints them",
                            words[2]);
    }
    status = cli_connect(cli);
    if (status != EXIT_OK) {
        return status;
    }
    snprintf(what, sizeof(what), "admit %s %s", words[0], wish.name);
    return change(cli, &wish, what);
}

static bool is_meant(const fleet_key_change_t *wish,
                     const fleet_key_row_t *row) {
    static const fleet_key_t zero;

    return memcmp(wish->key, zero, sizeof(zero)) != 0
               ? memcmp(wish->key, row->key, sizeof(zero)) == 0
               : strcmp(wish->name, row->name) == 0;
}

// The last admin's key takes all admission with it: that is asked.
static int confirm_last(cli_t *cli, const fleet_key_change_t *wish) {
    keys_t keys = {0};
    size_t admins = 0;
    size_t meant = 0;
    int status = ask_keys(cli, &keys);

    for (size_t i = 0; i < keys.n; i++) {
        bool admin = keys.items[i].role == fleet_role_ADMIN;

        admins += admin;
        meant += admin && is_meant(wish, &keys.items[i]);
    }
    free(keys.items);
    if (status == EXIT_OK && meant > 0 && meant == admins) {
        status = cli_confirm(cli,
                             "This is the last admin key: nobody could "
                             "admit or revoke keys any more.  Revoke it?");
    }
    return status;
}

int cmd_keys_revoke(cli_t *cli) {
    const char *word = cli->args.words[0];
    fleet_key_change_t wish = {0};
    char what[128];
    int status = EXIT_OK;

    if (!fleet_key_parse(word, wish.key)) {
        status = cli_take_name(cli, word, "key's holder", &wish.name);
    }
    status = status == EXIT_OK ? cli_connect(cli) : status;
    status = status == EXIT_OK ? confirm_last(cli, &wish) : status;
    if (status != EXIT_OK) {
        return status;
    }
    snprintf(what, sizeof(what), "revoke %.80s", word);
    return change(cli, &wish, what);
}
