// SPDX-License-Identifier: MIT
//
// Which interfaces are public, and why: see slots.h.

#include "node/slots.h"

#include <errno.h>
#include <linux/if_arp.h>
#include <stdlib.h>
#include <string.h>

#include "proto/text.h"

static const net_link_t *find(const net_view_t *view, const char *name) {
    for (uint32_t i = 0; i < view->links_n; i++) {
        if (strcmp(view->links[i].name, name) == 0) {
            return &view->links[i];
        }
    }
    return NULL;
}

static const net_link_t *find_index(const net_view_t *view, int index) {
    for (uint32_t i = 0; i < view->links_n; i++) {
        if (view->links[i].index == index) {
            return &view->links[i];
        }
    }
    return NULL;
}

// An address of its own that is no set's; IPv6 makes link-local ones by itself.
static const net_ip_t *own_address(const net_view_t *view,
                                   const net_link_t *link) {
    fleet_name_t set;
    if (net_mark_read(link->alias, set)) {
        return NULL;
    }
    for (uint32_t i = 0; i < view->addresses_n; i++) {
        const net_address_t *address = &view->addresses[i];
        const uint8_t *b = address->ip.bytes;
        bool local = net_ip_size(&address->ip) == 16 && b[0] == 0xfe &&
                     (b[1] & 0xc0) == 0x80;
        if (address->index == link->index && !local) {
            return &address->ip;
        }
    }
    return NULL;
}

static void add_note(slots_t *slots, const char *name, const char *verdict) {
    if (slots->notes_n < NET_LINKS_MAX) {
        FLEET_FORMAT(slots->notes[slots->notes_n], "%s: %s", name, verdict);
        slots->notes_n++;
    }
}

// Empty: it may be taken.
static void why_not(const slots_t *slots, const net_view_t *view,
                    const net_link_t *link, fleet_text_t ret_why) {
    const net_ip_t *own = own_address(view, link);
    fleet_text_t why = "";
    if (link->loopback) {
        FLEET_COPY(why, "not taken: the loopback");
    } else if (strcmp(link->name, slots->private_interface) == 0) {
        FLEET_COPY(why, "not taken: the private interface");
    } else if (link->kind[0] != '\0') {
        FLEET_FORMAT(why,
                     "not taken: a %s, not a physical device; name it in "
                     "node.yaml to use it",
                     link->kind);
    } else if (link->type != ARPHRD_ETHER) {
        FLEET_COPY(why, "not taken: not Ethernet");
    } else if (link->master != 0) {
        const net_link_t *master = find_index(view, link->master);
        FLEET_FORMAT(why, "not taken: a port of %s",
                     master == NULL ? "another" : master->name);
    } else if (own != NULL) {
        fleet_id_t text;
        net_ip_print(own, text);
        FLEET_FORMAT(why, "not taken: it has an address of its own, %s", text);
    }
    fleet_text_copy(ret_why, sizeof(fleet_text_t), why);
}

static void choose_private(const slots_wish_t *wish, const net_view_t *view,
                           slots_t *slots) {
    FLEET_COPY(slots->private_interface, wish->private_interface);
    const net_link_t *link = find_index(view, view->default_index);
    if (slots->private_interface[0] != '\0' || link == NULL ||
        strcmp(link->name, wish->parent) == 0) {
        return;
    }
    for (uint32_t i = 0; i < wish->interfaces_n; i++) {
        if (strcmp(link->name, wish->interfaces[i]) == 0) {
            return;
        }
    }
    FLEET_COPY(slots->private_interface, link->name);
    add_note(slots, link->name, "private: the default route leaves by it");
}

static void take(slots_t *slots, const net_link_t *link) {
    FLEET_COPY(slots->interfaces[slots->interfaces_n], link->name);
    slots->interfaces_n++;
    slots->n = slots->interfaces_n;
    if (link->up && !link->carrier) {
        add_note(slots, link->name, "taken; it has no carrier now");
    } else {
        add_note(slots, link->name, "taken");
    }
}

// What node.yaml names must be there, must not be the private one, and is not
// to have an address: its kernel would answer for it from the same wire.
static const net_link_t *check_named(const net_view_t *view,
                                     const slots_t *slots, const char *name,
                                     fleet_text_t *why) {
    const net_link_t *link = find(view, name);
    if (link == NULL) {
        FLEET_FORMAT(*why, "%s: no such interface", name);
        return NULL;
    }
    if (strcmp(name, slots->private_interface) == 0) {
        FLEET_FORMAT(*why, "%s: it is the private interface", name);
        return NULL;
    }
    if (link->type != ARPHRD_ETHER || link->loopback) {
        FLEET_FORMAT(*why, "%s: it is not Ethernet", name);
        return NULL;
    }
    if (link->master != 0) {
        const net_link_t *master = find_index(view, link->master);
        FLEET_FORMAT(*why, "%s: it is a port of %s", name,
                     master == NULL ? "another interface" : master->name);
        return NULL;
    }
    return link;
}

static fleet_err_t choose_parent(const slots_wish_t *wish,
                                 const net_view_t *view, slots_t *slots,
                                 fleet_text_t *why) {
    const net_link_t *link = check_named(view, slots, wish->parent, why);
    if (link == NULL) {
        return FLEET_BAD_FILE;
    }
    if (wish->interfaces_n != 0) {
        FLEET_COPY(*why, "either a parent or physical interfaces, not both");
        return FLEET_BAD_FILE;
    }
    if (wish->macvlans == 0 || wish->macvlans > SLOTS_MACVLANS_MAX) {
        FLEET_FORMAT(*why, "%s: a parent has room for 1 to %d sets, not %u",
                     wish->parent, SLOTS_MACVLANS_MAX, wish->macvlans);
        return FLEET_BAD_FILE;
    }
    FLEET_COPY(slots->parent, wish->parent);
    slots->n = wish->macvlans;
    const net_ip_t *own = own_address(view, link);
    if (own != NULL) {
        fleet_id_t text;
        fleet_text_t note;
        net_ip_print(own, text);
        FLEET_FORMAT(note, "parent; it should have no address, but has %s",
                     text);
        add_note(slots, link->name, note);
    } else {
        add_note(slots, link->name, "parent of the sets' interfaces");
    }
    return FLEET_OK;
}

static fleet_err_t choose_named(const slots_wish_t *wish,
                                const net_view_t *view, slots_t *slots,
                                fleet_text_t *why) {
    for (uint32_t i = 0; i < wish->interfaces_n; i++) {
        const net_link_t *link =
            check_named(view, slots, wish->interfaces[i], why);
        if (link == NULL) {
            return FLEET_BAD_FILE;
        }
        for (uint32_t j = 0; j < i; j++) {
            if (strcmp(wish->interfaces[i], wish->interfaces[j]) == 0) {
                FLEET_FORMAT(*why, "%s: named twice", link->name);
                return FLEET_BAD_FILE;
            }
        }
        take(slots, link);
    }
    return FLEET_OK;
}

static void discover(const net_view_t *view, slots_t *slots) {
    for (uint32_t i = 0; i < view->links_n; i++) {
        const net_link_t *link = &view->links[i];
        fleet_text_t why;
        why_not(slots, view, link, why);
        if (why[0] != '\0') {
            add_note(slots, link->name, why);
        } else if (slots->interfaces_n == SLOTS_INTERFACES_MAX) {
            add_note(slots, link->name, "not taken: there are enough");
        } else {
            take(slots, link);
        }
    }
}

fleet_err_t slots_choose(const slots_wish_t *wish, const net_view_t *view,
                         slots_t *ret_slots, fleet_text_t ret_why) {
    slots_t *slots = calloc(1, sizeof *slots);
    fleet_text_t why = "";
    fleet_err_t err = FLEET_OK;
    if (slots == NULL) {
        abort();
    }
    choose_private(wish, view, slots);
    if (wish->private_interface[0] != '\0' &&
        find(view, wish->private_interface) == NULL) {
        FLEET_FORMAT(why, "%s: no such interface", wish->private_interface);
        err = FLEET_BAD_FILE;
    } else if (wish->parent[0] != '\0') {
        err = choose_parent(wish, view, slots, &why);
    } else if (wish->interfaces_n != 0) {
        err = choose_named(wish, view, slots, &why);
    } else {
        discover(view, slots);
    }
    if (err == FLEET_OK) {
        *ret_slots = *slots;
    } else {
        fleet_text_copy(ret_why, sizeof(fleet_text_t), why);
    }
    free(slots);
    return err;
}

fleet_err_t slots_find(const slots_wish_t *wish, slots_t *ret_slots,
                       fleet_text_t ret_why) {
    net_t *net = net_open();
    int why = errno;
    net_view_t *view = calloc(1, sizeof *view);
    fleet_err_t err = FLEET_BAD_FILE;
    if (view == NULL) {
        abort();
    }
    if (net != NULL) {
        why = net_view(net, view);
    }
    if (net != NULL && why == 0) {
        err = slots_choose(wish, view, ret_slots, ret_why);
    } else {
        fleet_text_format(ret_why, sizeof(fleet_text_t),
                          "the kernel does not say which interfaces it has: %s",
                          strerror(why));
    }
    free(view);
    net_close(&net);
    return err;
}
