// SPDX-License-Identifier: MIT
//
// The journal, checked and written out.  An exported line is the event as
// everybody reads it, with the entry's bytes, hashes and signature beside it; a
// check makes the line anew from those bytes, so that no byte of it can be
// another.

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "cli/chain.h"
#include "cli/cli.h"
#include "cli/events.h"
#include "proto/text.h"

#define BATCH 500
#define BASE64 sodium_base64_VARIANT_ORIGINAL

// Reading all entries of a live journal, in order.
typedef struct reader {
    cli_t *cli;
    uint64_t next;
    uint64_t to; // 0: to the end
    bool truncated;
    bool stop;
    bool (*on_entry)(struct reader *reader, const fleet_parcel_t *row);
    chain_t chain;
    fleet_key_t last; // export: the hash of the entry before the next
    bool ended;       // a file: its last line was read
    fleet_message_t event;
    fleet_message_t beside;
} reader_t;

static void on_row(void *context, const fleet_parcel_t *row) {
    reader_t *reader = context;

    if (row == NULL || reader->stop) {
        return; // what was read stays read: numbers tell what is new
    }
    if (row->message.type == FLEET_MESSAGE_truncated) {
        reader->truncated = true;
        reader->stop = true;
        return;
    }
    if (row->message.type != FLEET_MESSAGE_entry || row->frames_n < 1 ||
        row->message.entry.seq < reader->next) {
        return;
    }
    if (reader->to != 0 && row->message.entry.seq > reader->to) {
        reader->stop = true;
        return;
    }
    reader->next = row->message.entry.seq + 1;
    reader->stop = !reader->on_entry(reader, row);
}

static int read_all(reader_t *reader) {
    fleet_end_t end = {.more = true};
    int status = EXIT_OK;

    reader->next = 1;
    while (end.more && !reader->stop && status == EXIT_OK) {
        fleet_message_t question = {.type = FLEET_MESSAGE_entries_ask};
        uint64_t before = reader->next;

        question.entries_ask.seq = reader->next;
        question.entries_ask.limit = BATCH;
        status = cli_ask(reader->cli, &question, on_row, reader, &end);
        if (status == EXIT_OK && end.more && reader->next == before &&
            !reader->stop) {
            return cli_complain(reader->cli, FLEET_BAD_MESSAGE,
                                "the broker does not send entry %" PRIu64,
                                before);
        }
    }
    if (status == EXIT_OK && reader->truncated) {
        return cli_complain(reader->cli, FLEET_JOURNAL_BEHIND,
                            "the journal's first entries are gone");
    }
    return status;
}

static fleet_bytes_t frame(const fleet_parcel_t *row, uint32_t i) {
    if (i >= row->frames_n) {
        return (fleet_bytes_t){.data = "", .size = 0};
    }
    return (fleet_bytes_t){.data = row->frames[i].data,
                           .size = row->frames[i].size};
}

// -----------------------------------------------------------------------
// export

static json_t *base64_json(fleet_bytes_t bytes) {
    size_t size = sodium_base64_encoded_len(bytes.size, BASE64);
    char *text = malloc(size);
    json_t *json;

    assert(text != NULL);
    sodium_bin2base64(text, size, bytes.data, bytes.size, BASE64);
    json = json_string(text);
    free(text);
    return json;
}

static json_t *hex_json(const uint8_t *bytes, size_t size) {
    char text[2 * FLEET_SIGNATURE_SIZE + 1];

    sodium_bin2hex(text, sizeof(text), bytes, size);
    return json_string(text);
}

// One line of an export; NULL if the entry's bytes are no event.
static json_t *line_json(reader_t *reader, const char *site,
                         const fleet_parcel_t *row) {
    const fleet_entry_t *entry = &row->message.entry;
    json_t *line;

    if (!events_decode(row, &reader->event, &reader->beside)) {
        return NULL;
    }
    line = fleet_event_json(
        site, &reader->event,
        reader->beside.type != FLEET_MESSAGE_none ? &reader->beside : NULL);
    json_object_set_new(line, "previous",
                        hex_json(entry->previous, FLEET_KEY_SIZE));
    json_object_set_new(line, "hash", hex_json(entry->hash, FLEET_KEY_SIZE));
    json_object_set_new(line, "signature",
                        entry->is_signed
                            ? hex_json(entry->signature, FLEET_SIGNATURE_SIZE)
                            : json_null());
    json_object_set_new(line, "entry", base64_json(frame(row, 0)));
    json_object_set_new(line, "beside", base64_json(frame(row, 1)));
    return line;
}

// The last line of an export.
static json_t *tail_json(const char *site, uint64_t seq,
                         const fleet_key_t hash) {
    json_t *line = fleet_mark_json(site, "stream.end");

    json_object_set_new(line, "at", json_integer((json_int_t)seq));
    json_object_set_new(line, "hash", hex_json(hash, FLEET_KEY_SIZE));
    return line;
}

static bool export_entry(reader_t *reader, const fleet_parcel_t *row) {
    json_t *line = line_json(reader, reader->cli->site, row);
    bool written = line != NULL && fleet_json_write(stdout, line, false);

    memcpy(reader->last, row->message.entry.hash, sizeof(reader->last));
    json_decref(line);
    return written;
}

int cmd_journal_export(cli_t *cli) {
    reader_t *reader = calloc(1, sizeof(*reader));
    int status = cli_connect(cli);
    json_t *tail;

    assert(reader != NULL);
    reader->cli = cli;
    reader->on_entry = export_entry;
    if (status == EXIT_OK) {
        status = read_all(reader);
    }
    if (status == EXIT_OK && reader->stop) {
        status = cli_complain(cli, FLEET_BUG,
                              "entry %" PRIu64 " could not be written",
                              reader->next - 1);
    }
    if (status == EXIT_OK) {
        tail = tail_json(cli->site, reader->next - 1, reader->last);
        if (!fleet_json_write(stdout, tail, false)) {
            status = EXIT_BUG;
        }
        json_decref(tail);
    }
    free(reader);
    return status;
}

// -----------------------------------------------------------------------
// verify

static int report(cli_t *cli, const chain_t *chain) {
    json_t *document = cli_document_new(cli);
    bool good = chain->broken == 0;
    char digits[9];

    fleet_key_short(chain->key, digits);
    if (good) {
        fprintf(cli->out,
                "%" PRIu64
                " entries, none changed, all signed (last key "
                "%s)\n",
                chain->next - 1, digits);
    } else {
        fprintf(stderr, "fleet: entry %" PRIu64 " is wrong: %s\n",
                chain->broken, chain->why);
    }
    json_object_set_new(document, "ok", json_boolean(good));
    json_object_set_new(document, "entries",
                        json_integer((json_int_t)(chain->next - 1)));
    json_object_set_new(document, "broken",
                        good ? json_null()
                             : json_integer((json_int_t)chain->broken));
    json_object_set_new(document, "text", fleet_text_json(chain->why));
    return cli_document(cli, document, good ? EXIT_OK : EXIT_NO);
}

static bool verify_entry(reader_t *reader, const fleet_parcel_t *row) {
    return chain_take(&reader->chain, &row->message.entry, frame(row, 0),
                      frame(row, 1));
}

static int verify_live(cli_t *cli, reader_t *reader) {
    static const fleet_key_t zero;
    const fleet_welcome_t *welcome;
    chain_t *chain = &reader->chain;
    int status = cli_connect(cli);

    if (status != EXIT_OK) {
        return status;
    }
    welcome = fleet_client_welcome(cli->client);
    // The journal was at least so long when the broker answered.
    reader->to = cli->args.to;
    status = read_all(reader);
    if (status != EXIT_OK) {
        return status;
    }
    if (reader->to == 0) {
        chain_end(chain, welcome->seq);
    } else if (chain->broken == 0 && chain->next <= reader->to) {
        chain_break(chain, chain->next,
                    "it is missing: the journal ends before it");
    }
    if (chain->broken == 0 && reader->to == 0 &&
        memcmp(welcome->sign_key, zero, sizeof(zero)) != 0 &&
        memcmp(welcome->sign_key, chain->key, sizeof(zero)) != 0) {
        chain_break(chain, chain->next - 1,
                    "the broker signs with another key than its journal says");
    }
    return report(cli, chain);
}

static bool parse_hex(const json_t *line, const char *key, uint8_t *bytes,
                      size_t size) {
    const char *text = json_string_value(json_object_get(line, key));
    size_t used = 0;

    return text != NULL && strlen(text) == 2 * size &&
           sodium_hex2bin(bytes, size, text, 2 * size, NULL, &used, NULL) ==
               0 &&
           used == size;
}

static bool parse_base64(const json_t *line, const char *key, uint8_t *buffer,
                         size_t size, size_t *ret_used) {
    const char *text = json_string_value(json_object_get(line, key));

    return text != NULL && sodium_base642bin(buffer, size, text, strlen(text),
                                             NULL, ret_used, NULL, BASE64) == 0;
}

typedef struct file_entry {
    fleet_parcel_t parcel; // frames are loans from the two buffers
    uint8_t event[FLEET_FRAME_MAX];
    uint8_t beside[FLEET_FRAME_MAX];
} file_entry_t;

static bool parse_line(const json_t *line, file_entry_t *ret) {
    fleet_parcel_t *parcel = &ret->parcel;
    fleet_entry_t *entry = &parcel->message.entry;
    json_t *seq = json_object_get(line, "seq");

    memset(parcel, 0, sizeof(*parcel));
    parcel->message.type = FLEET_MESSAGE_entry;
    parcel->frames_n = 2;
    parcel->frames[0].data = ret->event;
    parcel->frames[1].data = ret->beside;
    entry->seq = (uint64_t)json_integer_value(seq);
    entry->is_signed = !json_is_null(json_object_get(line, "signature"));
    return json_is_integer(seq) &&
           parse_hex(line, "previous", entry->previous, FLEET_KEY_SIZE) &&
           parse_hex(line, "hash", entry->hash, FLEET_KEY_SIZE) &&
           (!entry->is_signed || parse_hex(line, "signature", entry->signature,
                                           FLEET_SIGNATURE_SIZE)) &&
           parse_base64(line, "entry", ret->event, sizeof(ret->event),
                        &parcel->frames[0].size) &&
           parse_base64(line, "beside", ret->beside, sizeof(ret->beside),
                        &parcel->frames[1].size);
}

// Is this how it would be written?  Drops the line.
static bool same_line(json_t *line, const char *text) {
    char *anew = NULL;
    size_t size = 0;
    FILE *memory = open_memstream(&anew, &size);
    bool same;

    assert(memory != NULL);
    same = line != NULL && fleet_json_write(memory, line, false);
    fclose(memory);
    same = same && strcmp(anew, text) == 0;
    free(anew);
    json_decref(line);
    return same;
}

static bool verify_tail(reader_t *reader, const char *site, const char *text) {
    chain_t *chain = &reader->chain;

    reader->ended = true;
    if (same_line(tail_json(site, chain->next - 1, chain->hash), text)) {
        return true;
    }
    return chain_break(chain, chain->next,
                       "the file's last line does not fit what is before it");
}

static bool verify_line(reader_t *reader, const char *text,
                        file_entry_t *entry) {
    chain_t *chain = &reader->chain;
    json_t *line = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    const char *site = json_string_value(json_object_get(line, "site"));
    const char *event = json_string_value(json_object_get(line, "event"));
    bool good = false;

    site = site != NULL ? site : "";
    if (reader->ended) {
        chain_break(chain, chain->next, "it stands behind the last line");
    } else if (event != NULL && strcmp(event, "stream.end") == 0) {
        good = verify_tail(reader, site, text);
    } else if (line == NULL || !parse_line(line, entry)) {
        chain_break(chain, chain->next, "its line cannot be read");
    } else if (chain_take(chain, &entry->parcel.message.entry,
                          frame(&entry->parcel, 0), frame(&entry->parcel, 1))) {
        good = same_line(line_json(reader, site, &entry->parcel), text);
        if (!good) {
            chain_break(chain, chain->next - 1,
                        "its line does not say what its entry says");
        }
    }
    json_decref(line);
    return good;
}

static int verify_file(cli_t *cli, reader_t *reader, const char *path) {
    file_entry_t *entry = calloc(1, sizeof(*entry));
    FILE *stream = fopen(path, "re");
    uint64_t to = cli->args.to;
    char *text = NULL;
    size_t size = 0;
    bool good = true;

    assert(entry != NULL);
    if (stream == NULL) {
        free(entry);
        return cli_complain(cli, FLEET_BAD_FILE, "cannot read %s: %s", path,
                            strerror(errno));
    }
    while (good && (to == 0 || reader->chain.next <= to) &&
           getline(&text, &size, stream) > 0) {
        good = verify_line(reader, text, entry);
    }
    if (ferror(stream) != 0 && good) {
        chain_break(&reader->chain, reader->chain.next, "reading failed");
    }
    if (to != 0 && reader->chain.broken == 0 && reader->chain.next <= to) {
        chain_break(&reader->chain, reader->chain.next,
                    "it is missing: the file ends before it");
    } else if (to == 0 && chain_end(&reader->chain, 1) && !reader->ended) {
        chain_break(&reader->chain, reader->chain.next,
                    "the file's last line is missing: the end is cut off");
    }
    free(text);
    fclose(stream);
    free(entry);
    return report(cli, &reader->chain);
}

int cmd_journal_verify(cli_t *cli) {
    reader_t *reader = calloc(1, sizeof(*reader));
    int status;

    assert(reader != NULL);
    reader->cli = cli;
    reader->on_entry = verify_entry;
    chain_begin(&reader->chain);
    if (cli->args.words_n > 0) {
        status = verify_file(cli, reader, cli->args.words[0]);
    } else {
        status = verify_live(cli, reader);
    }
    free(reader);
    return status;
}
