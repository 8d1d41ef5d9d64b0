// SPDX-License-Identifier: MIT

#include "cli/chain.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "proto/codec.h"
#include "proto/text.h"

void chain_begin(chain_t *chain) {
    memset(chain, 0, sizeof(*chain));
    chain->next = 1;
}

bool chain_break(chain_t *chain, uint64_t seq, const char *format, ...) {
    va_list arguments;
    char text[1024];

    if (chain->broken != 0) {
        return false;
    }
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    chain->broken = seq > 0 ? seq : 1;
    FLEET_COPY(chain->why, text);
    return false;
}

// The event says its own number, and a reign its key.
static bool read_event(chain_t *chain, uint64_t seq, fleet_bytes_t bytes) {
    fleet_message_t event;
    fleet_text_t why = "";

    if (fleet_decode(bytes.data, bytes.size, &event, &why) != FLEET_OK) {
        return chain_break(chain, seq, "it cannot be read: %s", why);
    }
    if (!fleet_message_is_event(event.type) || event.event.head.seq != seq) {
        return chain_break(chain, seq, "it holds no event of this number");
    }
    if (event.type == FLEET_MESSAGE_reign_began) {
        chain->has_key = true;
        memcpy(chain->key, event.reign_began.sign_key, sizeof(chain->key));
    }
    return true;
}

bool chain_take(chain_t *chain, const fleet_entry_t *entry, fleet_bytes_t event,
                fleet_bytes_t beside) {
    fleet_key_t hash;

    if (chain->broken != 0) {
        return false;
    }
    if (entry->seq != chain->next) {
        return chain_break(chain, chain->next,
                           "entry %" PRIu64 " stands in its place", entry->seq);
    }
    if (memcmp(entry->previous, chain->hash, sizeof(hash)) != 0) {
        return chain_break(chain, entry->seq,
                           "it does not follow the entry before it");
    }
    fleet_entry_hash(entry->previous, entry->seq, event, beside, hash);
    if (memcmp(hash, entry->hash, sizeof(hash)) != 0) {
        return chain_break(chain, entry->seq, "its hash is not its content's");
    }
    if (!read_event(chain, entry->seq, event)) {
        return false;
    }
    if (entry->is_signed) {
        if (!chain->has_key) {
            return chain_break(chain, entry->seq,
                               "it is signed before any reign began");
        }
        if (!fleet_sign_ok(chain->key, hash, entry->signature)) {
            return chain_break(chain, entry->seq,
                               "its signature is not the broker's");
        }
        chain->signed_seq = entry->seq;
    }
    memcpy(chain->hash, hash, sizeof(hash));
    chain->next = entry->seq + 1;
    return true;
}

bool chain_end(chain_t *chain, uint64_t to) {
    if (chain->broken != 0) {
        return false;
    }
    if (to != 0 && chain->next <= to) {
        return chain_break(chain, chain->next,
                           "it is missing: the journal ends before it");
    }
    if (chain->signed_seq + 1 != chain->next) {
        return chain_break(chain, chain->signed_seq + 1,
                           "no signature covers it: the end is cut off");
    }
    return true;
}
