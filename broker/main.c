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

static int make_site(shell_t *shell, const options_t *options) {
    fleet_key_pair_t admin;
    fleet_text_t why = "";
    char digits[65];
    int status = read_key(options->admin_key, true, &admin);
    if (status != 0) {
        return status;
    }
    fleet_err_t err =
        shell_found_site(shell, options->make_site, admin.public_key, why);
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
