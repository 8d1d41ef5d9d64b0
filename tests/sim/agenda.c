// SPDX-License-Identifier: MIT
//
// What happens when: a heap by time, and by order of entry where times are
// equal.

#include <assert.h>
#include <stdlib.h>

#include "tests/sim/world.h"

static bool before(const sim_item_t *a, const sim_item_t *b) {
    return a->at < b->at || (a->at == b->at && a->order < b->order);
}

void agenda_add(world_t *world, uint64_t at, sim_what_t what, uint32_t host,
                uint64_t number, letter_t *letter) {
    agenda_t *agenda = &world->agenda;
    if (agenda->n == agenda->room) {
        agenda->room = agenda->room == 0 ? 256 : 2 * agenda->room;
        agenda->items =
            realloc(agenda->items, agenda->room * sizeof(*agenda->items));
        assert(agenda->items != NULL);
    }
    sim_item_t item = {.at = at > world->now ? at : world->now,
                       .order = ++agenda->order,
                       .what = what,
                       .host = host,
                       .number = number,
                       .letter = letter};
    size_t i = agenda->n++;
    while (i > 0 && before(&item, &agenda->items[(i - 1) / 2])) {
        agenda->items[i] = agenda->items[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    agenda->items[i] = item;
}

bool agenda_take(agenda_t *agenda, sim_item_t *ret_item) {
    if (agenda->n == 0) {
        return false;
    }
    *ret_item = agenda->items[0];
    sim_item_t last = agenda->items[--agenda->n];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= agenda->n) {
            break;
        }
        if (child + 1 < agenda->n &&
            before(&agenda->items[child + 1], &agenda->items[child])) {
            child++;
        }
        if (!before(&agenda->items[child], &last)) {
            break;
        }
        agenda->items[i] = agenda->items[child];
        i = child;
    }
    if (agenda->n > 0) {
        agenda->items[i] = last;
    }
    return true;
}
