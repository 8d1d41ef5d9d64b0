// SPDX-License-Identifier: MIT
//
// Loading by libcyaml after the scan has found nothing wrong, and the parsers
// of scalars that complain at the right place.

#include "proto/yaml.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/fd.h"
#include "proto/text.h"
#include "proto/yaml_scan.h"

struct fleet_yaml_doc {
    const cyaml_schema_value_t *schema;
    fleet_complaints_t *complaints; // the caller's
    fleet_yaml_places_t places;
    void *data;           // as libcyaml made it
    fleet_text_t refusal; // what libcyaml said last
};

// ------------------------------------------------------------------------
// files

fleet_err_t fleet_yaml_read_file(const char *path, size_t max, char **ret_text,
                                 size_t *ret_size,
                                 fleet_complaints_t *complaints) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) {
        fleet_complaints_add(complaints, 0, 0, "%s", strerror(errno));
        return FLEET_BAD_FILE;
    }
    char *text = malloc(max + 1);
    if (text == NULL) {
        abort();
    }
    // One byte more than is allowed, to see that there is more.
    size_t used = 0;
    bool good = fleet_fd_read(fd, text, max + 1, &used);
    if (!good) {
        fleet_complaints_add(complaints, 0, 0, "%s", strerror(errno));
    } else if (used > max) {
        fleet_complaints_add(complaints, 0, 0, "longer than %zu bytes", max);
        good = false;
    }
    close(fd);
    if (!good) {
        free(text);
        return FLEET_BAD_FILE;
    }
    text[used] = '\0';
    *ret_text = text;
    *ret_size = used;
    return FLEET_OK;
}

// ----------------------------------------------------------------------
// loading

static void keep_refusal(cyaml_log_t level, void *context, const char *format,
                         va_list arguments)
    __attribute__((format(printf, 3, 0)));

static void keep_refusal(cyaml_log_t level, void *context, const char *format,
                         va_list arguments) {
    fleet_yaml_doc_t *doc = context;
    // The first is the cause; a backtrace through the schema follows it.
    if (level == CYAML_LOG_ERROR && doc->refusal[0] == '\0') {
        fleet_text_vformat(doc->refusal, sizeof(doc->refusal), format,
                           arguments);
        doc->refusal[strcspn(doc->refusal, "\n")] = '\0';
    }
}

static cyaml_config_t config_of(fleet_yaml_doc_t *doc) {
    return (cyaml_config_t){
        .log_fn = keep_refusal,
        .log_ctx = doc,
        .mem_fn = cyaml_mem,
        .log_level = CYAML_LOG_ERROR,
        .flags = CYAML_CFG_NO_ALIAS,
    };
}

fleet_err_t fleet_yaml_load(const char *text, size_t size,
                            const cyaml_schema_value_t *schema,
                            fleet_complaints_t *complaints,
                            fleet_yaml_doc_t **ret_doc) {
    fleet_yaml_doc_t *doc = calloc(1, sizeof(*doc));
    if (doc == NULL) {
        abort();
    }
    doc->schema = schema;
    doc->complaints = complaints;
    if (!fleet_yaml_scan(text, size, schema, &doc->places, complaints)) {
        fleet_complaints_sort(complaints);
        fleet_yaml_destroy(&doc);
        return FLEET_BAD_FILE;
    }
    cyaml_config_t config = config_of(doc);
    cyaml_err_t err = cyaml_load_data((const uint8_t *)text, size, &config,
                                      schema, &doc->data, NULL);
    if (err != CYAML_OK) {
        fleet_complaints_add(complaints, 0, 0, "%s",
                             doc->refusal[0] != '\0' ? doc->refusal
                                                     : cyaml_strerror(err));
        doc->data = NULL;
        fleet_yaml_destroy(&doc);
        return FLEET_BAD_FILE;
    }
    *ret_doc = doc;
    return FLEET_OK;
}

void fleet_yaml_destroy(fleet_yaml_doc_t **doc_p) {
    fleet_yaml_doc_t *doc = *doc_p;
    if (doc == NULL) {
        return;
    }
    if (doc->data != NULL) {
        cyaml_config_t config = config_of(doc);
        cyaml_free(&config, doc->schema, doc->data, 0);
    }
    free(doc->places.items);
    free(doc);
    *doc_p = NULL;
}

const void *fleet_yaml_data(const fleet_yaml_doc_t *doc) {
    return doc->data;
}

// -----------------------------------------------------------------------
// places

bool fleet_yaml_has(const fleet_yaml_doc_t *doc, const char *path) {
    return fleet_yaml_place_find(&doc->places, path) != NULL;
}

// Cuts the last part off: "a[1].b" to "a[1]" to "a" to "".
static void cut_last(char *path) {
    char *dot = strrchr(path, '.');
    char *bracket = strrchr(path, '[');
    char *cut =
        dot == NULL || (bracket != NULL && bracket > dot) ? bracket : dot;
    if (cut == NULL) {
        cut = path;
    }
    *cut = '\0';
}

static const fleet_yaml_place_t *nearest_place(const fleet_yaml_doc_t *doc,
                                               const char *path) {
    char at[FLEET_YAML_PATH_SIZE];
    FLEET_COPY(at, path);
    const fleet_yaml_place_t *place = fleet_yaml_place_find(&doc->places, at);
    while (place == NULL) {
        assert(at[0] != '\0'); // every document has a top
        cut_last(at);
        place = fleet_yaml_place_find(&doc->places, at);
    }
    return place;
}

fleet_complaint_t *fleet_yaml_complain(const fleet_yaml_doc_t *doc,
                                       const char *path, const char *format,
                                       ...) {
    const fleet_yaml_place_t *place = nearest_place(doc, path);
    va_list arguments;
    va_start(arguments, format);
    fleet_complaint_t *complaint = fleet_complaints_vadd(
        doc->complaints, place->line, place->column, format, arguments);
    va_end(arguments);
    return complaint;
}

// How a sentence names a path: by its last part.
static const char *last_part(const char *path) {
    const char *dot = strrchr(path, '.');
    return dot == NULL ? path : dot + 1;
}

// ----------------------------------------------------------------------
// scalars

bool fleet_yaml_name(const fleet_yaml_doc_t *doc, const char *path,
                     const char *text, fleet_name_t *ret) {
    if (text == NULL) {
        return true;
    }
    if (!fleet_name_ok(text)) {
        fleet_complaint_t *complaint =
            fleet_yaml_complain(doc, path, "\"%.40s\" is not a name", text);
        FLEET_COPY(complaint->hint,
                   "up to 32 of a-z 0-9 -, not beginning with -; all any here "
                   "none are reserved");
        return false;
    }
    FLEET_COPY(*ret, text);
    return true;
}

bool fleet_yaml_text(const fleet_yaml_doc_t *doc, const char *path,
                     const char *text, char *ret, size_t size) {
    if (text == NULL) {
        return true;
    }
    if (strlen(text) >= size) {
        fleet_yaml_complain(doc, path, "%s is longer than %zu bytes",
                            last_part(path), size - 1);
        return false;
    }
    for (const char *at = text; *at != '\0'; at++) {
        if ((unsigned char)*at < 0x20 || *at == 0x7f) {
            fleet_yaml_complain(doc, path,
                                "%s has a line end or control character",
                                last_part(path));
            return false;
        }
    }
    fleet_text_copy(ret, size, text);
    return true;
}

bool fleet_yaml_path(const fleet_yaml_doc_t *doc, const char *path,
                     const char *text, fleet_text_t *ret) {
    if (text == NULL) {
        return true;
    }
    if (text[0] != '/') {
        fleet_yaml_complain(doc, path,
                            "%s must be an absolute path, not \"%.80s\"",
                            last_part(path), text);
        return false;
    }
    return fleet_yaml_text(doc, path, text, *ret, sizeof(*ret));
}

bool fleet_yaml_duration(const fleet_yaml_doc_t *doc, const char *path,
                         const char *text, uint64_t least_ms, uint64_t most_ms,
                         uint64_t *ret_ms) {
    if (text == NULL) {
        return true;
    }
    uint64_t ms;
    if (!fleet_duration_parse(text, &ms)) {
        fleet_complaint_t *complaint =
            fleet_yaml_complain(doc, path, "\"%.40s\" is not a duration", text);
        FLEET_COPY(complaint->hint, "a number with its unit: 500ms 30s 10m 2h");
        return false;
    }
    if (ms < least_ms || ms > most_ms) {
        char least[32];
        char most[32];
        fleet_duration_print(1000 * least_ms, least, sizeof(least));
        fleet_duration_print(1000 * most_ms, most, sizeof(most));
        fleet_yaml_complain(doc, path, "%s %s is not from %s to %s",
                            last_part(path), text, least, most);
        return false;
    }
    *ret_ms = ms;
    return true;
}

static bool parse_number(const char *text, uint64_t *ret) {
    uint64_t number = 0;
    if (text[0] == '\0' || (text[0] == '0' && text[1] != '\0')) {
        return false;
    }
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9' || number > UINT64_MAX / 10 - 1) {
            return false;
        }
        number = number * 10 + (uint64_t)(*text - '0');
    }
    *ret = number;
    return true;
}

bool fleet_yaml_number(const fleet_yaml_doc_t *doc, const char *path,
                       const char *text, uint64_t least, uint64_t most,
                       uint64_t *ret) {
    if (text == NULL) {
        return true;
    }
    uint64_t number;
    if (!parse_number(text, &number) || number < least || number > most) {
        fleet_yaml_complain(
            doc, path, "%s must be a number from %llu to %llu, not \"%.40s\"",
            last_part(path), (unsigned long long)least,
            (unsigned long long)most, text);
        return false;
    }
    *ret = number;
    return true;
}

bool fleet_yaml_bool(const fleet_yaml_doc_t *doc, const char *path,
                     const char *text, bool *ret) {
    static const char *const words[] = {"false", "true"};
    size_t word = *ret ? 1 : 0;
    if (!fleet_yaml_word(doc, path, text, words, 2, &word)) {
        return false;
    }
    *ret = word == 1;
    return true;
}

bool fleet_yaml_key(const fleet_yaml_doc_t *doc, const char *path,
                    const char *text, fleet_key_t ret) {
    if (text == NULL) {
        return true;
    }
    if (!fleet_key_parse(text, ret)) {
        fleet_yaml_complain(doc, path,
                            "%s must be a public key of 64 hex digits",
                            last_part(path));
        return false;
    }
    return true;
}

bool fleet_yaml_word(const fleet_yaml_doc_t *doc, const char *path,
                     const char *text, const char *const *words, size_t words_n,
                     size_t *ret) {
    if (text == NULL) {
        return true;
    }
    for (size_t i = 0; i < words_n; i++) {
        if (strcmp(words[i], text) == 0) {
            *ret = i;
            return true;
        }
    }
    const char *nearest = fleet_name_nearest(text, words, words_n);
    fleet_complaint_t *complaint =
        nearest == NULL
            ? fleet_yaml_complain(doc, path, "%s cannot be \"%.40s\"",
                                  last_part(path), text)
            : fleet_yaml_complain(doc, path, "%s cannot be \"%.40s\"; \"%s\"?",
                                  last_part(path), text, nearest);
    char allowed[FLEET_TEXT_MAX + 1] = "allowed:";
    size_t length = strlen(allowed);
    for (size_t i = 0; i < words_n && length < sizeof(allowed); i++) {
        length += (size_t)snprintf(allowed + length, sizeof(allowed) - length,
                                   " %s", words[i]);
    }
    FLEET_COPY(complaint->hint, allowed);
    return false;
}
