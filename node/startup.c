// SPDX-License-Identifier: MIT
//
// What a node knows before it says its first word: what is on its disk.

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "node/agents/group.h"
#include "node/log.h"
#include "node/loop_state.h"
#include "proto/text.h"

void loop_cgroup(const config_t *config, fleet_text_t ret_path) {
    fleet_text_t root;
    fleet_text_copy(ret_path, FLEET_TEXT_MAX + 1, "");
    if (group_find_root(root)) {
        fleet_text_format(ret_path, FLEET_TEXT_MAX + 1, "%s%s%s/fleet/%s", root,
                          config->cgroup[0] != '\0' ? "/" : "", config->cgroup,
                          config->node);
    }
}

static void make_agent_id(fleet_id_t ret_id) {
    uint64_t word;
    if (getrandom(&word, sizeof(word), 0) != (ssize_t)sizeof(word)) {
        abort();
    }
    fleet_text_format(ret_id, FLEET_ID_MAX + 1, "%016" PRIx64, word);
}

static bool open_stores(loop_t *loop, const char *agent_id,
                        uint64_t *ret_term) {
    const config_t *config = &loop->config.config;
    fleet_text_t why;
    if (record_store_new(config->state, config->run, loop->inventory.boot_id,
                         agent_id, &loop->records, why) != FLEET_OK ||
        record_term_read(loop->records, ret_term, why) != FLEET_OK ||
        defs_new(config->state, &loop->defs, why) != FLEET_OK) {
        log_error("node: %s -> does not start", why);
        return false;
    }
    return true;
}

static bool send_to_broker(void *context, const fleet_message_t *message) {
    loop_t *loop = context;
    return uplink_send(loop->uplink, message);
}

static void make_core(loop_t *loop, const char *agent_id, uint64_t term) {
    const config_t *config = &loop->config.config;
    loop->remembers =
        record_remembers(loop->records, loop->config.pair.public_key);
    node_config_t core = {
        .slots = loop->slots.n, .term = term, .no_memory = !loop->remembers};
    FLEET_COPY(core.site, config->site);
    FLEET_COPY(core.node, config->node);
    FLEET_COPY(core.version, FLEET_VERSION);
    FLEET_COPY(core.boot_id, loop->inventory.boot_id);
    FLEET_COPY(core.agent_id, agent_id);
    FLEET_COPY(core.kernel, loop->inventory.kernel);
    FLEET_COPY(core.kernel_id, loop->inventory.kernel_id);
    void *memory = malloc(node_core_size());
    loop->effects = malloc(sizeof(*loop->effects));
    if (!memory || !loop->effects) {
        abort();
    }
    loop->core = node_core_init(memory, &core);
    loop->asks =
        asks_new(loop->core, config->node, loop->local, send_to_broker, loop);
}

typedef struct loading {
    loop_t *loop;
    uint64_t now_ms;
} loading_t;

static void on_record(void *context, const record_t *record) {
    const loading_t *loading = context;
    loop_t *loop = loading->loop;
    const char *set = record->pair.set;
    bool open = record->pair.phase != fleet_phase_CLOSED;
    memset(&loop->input, 0, sizeof(loop->input));
    node_input_t *input = &loop->input;
    input->kind = NODE_IN_LOADED;
    input->record = record->pair;
    input->same_boot = strcmp(record->boot_id, loop->inventory.boot_id) == 0;
    input->lease_left_ms =
        record_deadline_left(loop->records, set, loading->now_ms);
    input->rev = record->rev;
    input->setdef = defs_find(loop->defs, set, record->rev);
    if (open) {
        defs_pin(loop->defs, set, record->rev);
    }
    if (open && !input->setdef) {
        log_warning("%s: the definition that it runs by (revision %" PRIu64
                    ") is not in %s/sets",
                    set, record->rev, loop->config.config.state);
    }
    log_info("%s: record of token %" PRIu64 ", %s%s -> loaded", set,
             record->pair.token, fleet_phase_word(record->pair.phase),
             input->same_boot ? "" : ", from before the boot");
    loop_step(loop, input);
}

static bool load_records(loop_t *loop) {
    fleet_text_t why;
    ticker_clocks_t now = ticker_now();
    ticker_init(&loop->ticker, &now);
    loading_t loading = {.loop = loop, .now_ms = now.boot_us / 1000};
    if (record_load(loop->records, on_record, &loading, why) != FLEET_OK) {
        log_error("node: %s -> does not start", why);
        return false;
    }
    return !loop->over;
}

bool loop_load(loop_t *loop) {
    const config_t *config = &loop->config.config;
    fleet_text_t why;
    fleet_id_t agent_id;
    uint64_t term = 0;
    make_agent_id(agent_id);
    loop_cgroup(config, loop->cgroup);
    if (loop->cgroup[0] == '\0') {
        log_warning(
            "node: no control groups v2 are mounted -> services of "
            "sets cannot be started here");
    }
    if (!inventory_read(&loop->inventory, why)) {
        log_error("node: %s -> does not start", why);
        return false;
    }
    if (slots_find(&config->slots, &loop->slots, why) != FLEET_OK) {
        log_error("%s: slots: %s -> does not start", loop->config.config_path,
                  why);
        return false;
    }
    log_info("node: %s, kernel %s, %u slots -> starts", config->node,
             loop->inventory.kernel, loop->slots.n);
    if (!open_stores(loop, agent_id, &term)) {
        return false;
    }
    make_core(loop, agent_id, term);
    return load_records(loop);
}
