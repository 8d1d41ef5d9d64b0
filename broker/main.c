// SPDX-License-Identifier: MIT
//
// fleet-broker: reads its file and its key, and runs the loop; or makes a new
// site, prints its public key, checks its file.  Nothing is decided here.

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/shell.h"
#include "proto/text.h"

#define EXIT_FAILED 1
#define EXIT_ARGUMENTS 64
#define EXIT_FILE 78

typedef struct options {
    const char *config;
    const char *make_site; // the first admin's name, or NULL
    const char *admin_key;
    bool check;
    bool print_key;
} options_t;

static void usage(FILE *stream) {
    fputs(
        "Usage: fleet-broker [--config FILE]\n"
        "       fleet-broker [--config FILE] --make-site ADMIN "
        "--admin-key FILE\n"
        "       fleet-broker [--config FILE] --check | --print-key\n"
        "\n"
        "  --config FILE     default /etc/fleet/broker.yaml\n"
        "  --make-site ADMIN begin a new site in an empty store, with ADMIN "
        "as its first\n"
        "                    admin; makes the broker's key file if it is "
        "missing\n"
        "  --admin-key FILE  where that admin's key file is to be made\n"
        "  --check           read the file, say what is wrong, and end\n"
        "  --print-key       print the broker's public key, and end\n",
        stream);
}

// False if the arguments are wrong, which has then been said.
static bool read_options(int argc, char **argv, options_t *options) {
    static const struct option longs[] = {
        {"config", required_argument, NULL, 'c'},
        {"make-site", required_argument, NULL, 'm'},
        {"admin-key", required_argument, NULL, 'a'},
        {"check", no_argument, NULL, 'k'},
        {"print-key", no_argument, NULL, 'p'},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'v'},
        {NULL, 0, NULL, 0},
    };
    int option = 0;
    while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        switch (option) {
        case 'c':
            options->config = optarg;
            break;
        case 'm':
            options->make_site = optarg;
            break;
        case 'a':
            options->admin_key = optarg;
            break;
        case 'k':
            options->check = true;
            break;
        case 'p':
            options->print_key = true;
            break;
        case 'h':
            usage(stdout);
            exit(0);
        case 'v':
            puts("fleet-broker " FLEET_VERSION);
            exit(0);
        default:
            return false;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "fleet-broker: \"%s\" is no option\n", argv[optind]);
        return false;
    }
    if ((options->make_site != NULL) != (options->admin_key != NULL)) {
        fputs(
            "fleet-broker: --make-site ADMIN and --admin-key FILE go "
            "together\n",
            stderr);
        return false;
    }
    if (options->make_site != NULL && !fleet_name_ok(options->make_site)) {
        fprintf(stderr,
                "fleet-broker: \"%s\" is no name: small letters, digits and "
                "-, at most %d\n",
                options->make_site, FLEET_NAME_MAX);
        return false;
    }
    return true;
}

static shell_t *shell_new(const char *config) {
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

static void shell_destroy(shell_t **shell_p) {
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

static int read_config(shell_t *shell) {
    fleet_complaints_t complaints = {0};
    if (broker_config_read(shell->config_path, &shell->settings, &complaints) ==
        FLEET_OK) {
        return 0;
    }
    fleet_complaints_print(&complaints, shell->config_path, stderr);
    return EXIT_FILE;
}

// Reads a key file; makes it first if it is missing and may be made.
static int read_key(const char *path, bool make, fleet_key_pair_t *ret_pair) {
    fleet_text_t why = "";
    if (make && access(path, F_OK) < 0 && errno == ENOENT) {
        fleet_key_pair_make(ret_pair);
        if (fleet_key_file_write(path, ret_pair, why) != FLEET_OK) {
            fprintf(stderr, "fleet-broker: %s\n", why);
            return EXIT_FILE;
        }
        return 0;
    }
    if (fleet_key_file_read(path, ret_pair, why) != FLEET_OK) {
        bool missing = access(path, F_OK) < 0;
        fprintf(stderr, "fleet-broker: %s%s\n", why,
                missing ? "; a new site's key is made by --make-site" : "");
        return EXIT_FILE;
    }
    return 0;
}

// The first entries of a journal: its first reign, and the key of its admin.
static fleet_err_t found_site(shell_t *shell, const options_t *options,
                              const fleet_key_pair_t *admin,
                              fleet_text_t ret_why) {
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
    FLEET_COPY(message.key_change.name, options->make_site);
    memcpy(message.key_change.key, admin->public_key, FLEET_KEY_SIZE);
    broker_input_t key = {.kind = BROKER_IN_KEY, .message = &message};
    broker_input_t start = {.kind = BROKER_IN_START};
    shell_step(shell, &key);
    shell_step(shell, &start);
    err = shell_commit(shell, ret_why);
    return err != FLEET_OK ? err : store_close(&shell->store, true, ret_why);
}

static int make_site(shell_t *shell, const options_t *options) {
    fleet_key_pair_t admin;
    fleet_text_t why = "";
    char digits[65];
    int status = read_key(options->admin_key, true, &admin);
    if (status != 0) {
        return status;
    }
    fleet_err_t err = found_site(shell, options, &admin, why);
    fleet_key_pair_wipe(&admin);
    if (err != FLEET_OK) {
        fleet_text_t ignored = "";
        store_close(&shell->store, false, ignored);
        fprintf(stderr, "fleet-broker: %s\n", why);
        return EXIT_FAILED;
    }
    fleet_key_print(shell->pair.public_key, digits);
    printf("%s\n", digits);
    fprintf(stderr,
            "Site %s is made; %s is its admin, with the key file %s.\n"
            "The line above is the broker's public key: it goes into every "
            "client.yaml and\n"
            "node.yaml.  Next: start fleet-broker, then admit keys with\n"
            "  fleet keys admit node NAME PUBLIC-KEY\n",
            shell->settings.site, options->make_site, options->admin_key);
    return 0;
}

static int run(shell_t *shell, const options_t *options) {
    int status = read_config(shell);
    if (status != 0 || options->check) {
        return status;
    }
    status =
        read_key(shell->settings.key, options->make_site != NULL, &shell->pair);
    if (status != 0) {
        return status;
    }
    fleet_sign_pair_derive(&shell->pair, &shell->sign);
    if (options->print_key) {
        char digits[65];
        fleet_key_print(shell->pair.public_key, digits);
        printf("%s\n", digits);
        return 0;
    }
    if (options->make_site != NULL) {
        return make_site(shell, options);
    }
    return broker_loop_run(shell);
}

int main(int argc, char **argv) {
    options_t options = {.config = "/etc/fleet/broker.yaml"};
    if (!read_options(argc, argv, &options)) {
        usage(stderr);
        return EXIT_ARGUMENTS;
    }
    fleet_keys_init();
    shell_t *shell = shell_new(options.config);
    int status = run(shell, &options);
    shell_destroy(&shell);
    return status;
}
