// SPDX-License-Identifier: MIT
//
// The parts of a broker put together, taken apart, and begun for the first
// time.

#include "broker/shell.h"

#include <stdlib.h>
#include <string.h>

#include "proto/text.h"

shell_t *shell_new(const char *config) {
    shell_t *shell = calloc(1, sizeof *shell);
    if (shell == NULL) {
        abort();
    }
    shell->config_path = config;
    shell->view = view_new();
    shell->book = book_new();
    shell->followers = followers_new();
    shell->peers = peers_new();
    shell->fence = fence_new();
    shell->batch = entry_batch_new();
    shell->outbox = outbox_new();
    return shell;
}

void shell_destroy(shell_t **shell_p) {
    shell_t *shell = *shell_p;
    view_destroy(&shell->view);
    book_destroy(&shell->book);
    followers_destroy(&shell->followers);
    peers_destroy(&shell->peers);
    fence_destroy(&shell->fence);
    entry_batch_destroy(&shell->batch);
    outbox_destroy(&shell->outbox);
    fleet_key_pair_wipe(&shell->pair);
    free(shell->changed.names);
    free(shell->memory);
    free(shell->effects);
    free(shell);
    *shell_p = NULL;
}

fleet_err_t shell_found_site(shell_t *shell, const char *admin,
                             const fleet_key_t key, fleet_text_t ret_why) {
    shell_clock(shell);
    shell->stepped_us = shell->now_us;
    fleet_err_t err = shell_replay(shell, ret_why);
    if (err != FLEET_OK) {
        return err;
    }
    if (broker_core_seq(shell->core) > 0) {
        fleet_text_format(ret_why, sizeof(fleet_text_t),
                          "%.200s holds a site already: nothing was changed",
                          shell->settings.store);
        return FLEET_STORE_FAILED;
    }
    fleet_message_t message = {.type = FLEET_MESSAGE_key_change};
    message.key_change.admit = true;
    message.key_change.role = fleet_role_ADMIN;
    FLEET_COPY(message.key_change.name, admin);
    memcpy(message.key_change.key, key, FLEET_KEY_SIZE);
    broker_input_t first = {.kind = BROKER_IN_KEY, .message = &message};
    broker_input_t start = {.kind = BROKER_IN_START};
    shell_step(shell, &first);
    shell_step(shell, &start);
    err = shell_commit(shell, ret_why);
    return err != FLEET_OK ? err : store_close(&shell->store, true, ret_why);
}
