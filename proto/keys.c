// SPDX-License-Identifier: MIT
//
// Key pairs, their files, hashes and signatures, all from libsodium.

#include "proto/keys.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sodium.h>

#include "proto/fd.h"
#include "proto/text.h"

// A key file is a few comments and 64 digits.
#define KEY_FILE_MAX 4096

_Static_assert(FLEET_KEY_SIZE == crypto_scalarmult_BYTES, "X25519");
_Static_assert(FLEET_KEY_SIZE == crypto_sign_PUBLICKEYBYTES, "Ed25519");
_Static_assert(FLEET_KEY_SIZE == crypto_sign_SEEDBYTES, "Ed25519");
_Static_assert(FLEET_SIGNATURE_SIZE == crypto_sign_BYTES, "Ed25519");
_Static_assert(sizeof(((fleet_sign_pair_t *)NULL)->secret_key) ==
                   crypto_sign_SECRETKEYBYTES,
               "Ed25519");

void fleet_keys_init(void) {
    if (sodium_init() < 0) {
        abort();
    }
}

// ----------------------------------------------------------------------- pairs

void fleet_key_pair_make(fleet_key_pair_t *ret_pair) {
    crypto_box_keypair(ret_pair->public_key, ret_pair->secret_key);
}

void fleet_key_pair_wipe(fleet_key_pair_t *pair) {
    sodium_memzero(pair, sizeof(*pair));
}

// ----------------------------------------------------------------------- files

static fleet_err_t bad_key(fleet_text_t why, const char *path,
                           const char *what) {
    fleet_text_format(why, sizeof(fleet_text_t), "%s: %s", path, what);
    return FLEET_BAD_KEY;
}

fleet_err_t fleet_key_file_write(const char *path, const fleet_key_pair_t *pair,
                                 fleet_text_t ret_why) {
    char public_digits[65];
    char secret_digits[65];
    fleet_key_print(pair->public_key, public_digits);
    fleet_key_print(pair->secret_key, secret_digits);
    char text[512];
    snprintf(text, sizeof(text),
             "# A fleet key: whoever can read this file is its owner.\n"
             "# public: %s\n%s\n",
             public_digits, secret_digits);
    sodium_memzero(secret_digits, sizeof(secret_digits));

    int fd =
        open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        sodium_memzero(text, sizeof(text));
        return bad_key(ret_why, path,
                       errno == EEXIST ? "exists already; it is not overwritten"
                                       : strerror(errno));
    }
    // The mask of the process may have taken the owner's own rights, too.
    bool good = fchmod(fd, 0600) == 0 &&
                fleet_fd_write(fd, text, strlen(text)) && fsync(fd) == 0;
    int error = errno;
    if (close(fd) != 0 && good) {
        error = errno;
        good = false;
    }
    sodium_memzero(text, sizeof(text));
    if (!good) {
        unlink(path);
        return bad_key(ret_why, path, strerror(error));
    }
    return FLEET_OK;
}

// Is the open file one that only its owner, who is this process, can read?
static fleet_err_t check_file(int fd, const char *path, fleet_text_t ret_why) {
    struct stat stat;
    if (fstat(fd, &stat) != 0) {
        return bad_key(ret_why, path, strerror(errno));
    }
    if (!S_ISREG(stat.st_mode)) {
        return bad_key(ret_why, path, "is not a file");
    }
    if (stat.st_uid != geteuid()) {
        fleet_text_format(ret_why, sizeof(fleet_text_t),
                          "%s: belongs to user %u, not to %u who reads it; "
                          "chown it",
                          path, stat.st_uid, geteuid());
        return FLEET_BAD_KEY;
    }
    if ((stat.st_mode & 077) != 0) {
        fleet_text_format(ret_why, sizeof(fleet_text_t),
                          "%s: others than its owner may use it (mode %04o); "
                          "chmod 600 it, and make a new key if it was read",
                          path, stat.st_mode & 07777);
        return FLEET_BAD_KEY;
    }
    return FLEET_OK;
}

static bool is_blank(const char *text) {
    return text[strspn(text, " \t\r\n")] == '\0';
}

// The 64 digits of the first line that is no comment; nothing may follow.
static bool parse_file(char *text, fleet_key_t ret_secret) {
    char *rest = text;
    char *line;
    while ((line = strsep(&rest, "\n")) != NULL) {
        line[strcspn(line, "\r")] = '\0';
        if (line[0] == '#' || is_blank(line)) {
            continue;
        }
        return (rest == NULL || is_blank(rest)) &&
               fleet_key_parse(line, ret_secret);
    }
    return false;
}

static fleet_err_t read_secret(int fd, const char *path, fleet_key_t ret_secret,
                               fleet_text_t ret_why) {
    fleet_err_t err = check_file(fd, path, ret_why);
    if (err != FLEET_OK) {
        return err;
    }
    char text[KEY_FILE_MAX + 1];
    size_t used;
    if (!fleet_fd_read(fd, text, sizeof(text), &used)) {
        return bad_key(ret_why, path, strerror(errno));
    }
    bool good = used <= KEY_FILE_MAX && memchr(text, '\0', used) == NULL;
    if (good) {
        text[used] = '\0';
        good = parse_file(text, ret_secret);
    }
    sodium_memzero(text, sizeof(text));
    if (!good) {
        return bad_key(ret_why, path,
                       "holds no key: 64 hex digits in one line; "
                       "`fleet keys make` makes one");
    }
    return FLEET_OK;
}

fleet_err_t fleet_key_file_read(const char *path, fleet_key_pair_t *ret_pair,
                                fleet_text_t ret_why) {
    // Not blocking: the path may be somebody's fifo.
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        return bad_key(ret_why, path, strerror(errno));
    }
    fleet_key_pair_t pair = {0};
    fleet_err_t err = read_secret(fd, path, pair.secret_key, ret_why);
    close(fd);
    if (err == FLEET_OK &&
        crypto_scalarmult_base(pair.public_key, pair.secret_key) != 0) {
        err = bad_key(ret_why, path, "holds no usable key");
    }
    if (err == FLEET_OK) {
        *ret_pair = pair;
    }
    fleet_key_pair_wipe(&pair);
    return err;
}

// ------------------------------------------------------------------ signatures

void fleet_sign_pair_derive(const fleet_key_pair_t *pair,
                            fleet_sign_pair_t *ret_sign) {
    // Never to change: it decides which key old journals are verified with.
    static const uint8_t label[] = "fleet journal signing key 1";
    uint8_t seed[crypto_sign_SEEDBYTES];
    int done =
        crypto_generichash(seed, sizeof(seed), pair->secret_key,
                           sizeof(pair->secret_key), label, sizeof(label) - 1);
    assert(done == 0);
    done = crypto_sign_seed_keypair(ret_sign->public_key, ret_sign->secret_key,
                                    seed);
    assert(done == 0);
    sodium_memzero(seed, sizeof(seed));
}

void fleet_sign(const fleet_sign_pair_t *sign, const fleet_key_t hash,
                fleet_signature_t ret_signature) {
    int done = crypto_sign_detached(ret_signature, NULL, hash, FLEET_KEY_SIZE,
                                    sign->secret_key);
    assert(done == 0);
}

bool fleet_sign_ok(const fleet_key_t public_key, const fleet_key_t hash,
                   const fleet_signature_t signature) {
    return crypto_sign_verify_detached(signature, hash, FLEET_KEY_SIZE,
                                       public_key) == 0;
}

// ---------------------------------------------------------------------- hashes

static void store_u64(uint8_t octets[8], uint64_t number) {
    for (size_t i = 0; i < 8; i++) {
        octets[i] = (uint8_t)(number >> (8 * i));
    }
}

void fleet_hash(const fleet_bytes_t *parts, size_t parts_n,
                fleet_key_t ret_hash) {
    crypto_generichash_state state;
    int done = crypto_generichash_init(&state, NULL, 0, FLEET_KEY_SIZE);
    assert(done == 0);
    for (size_t i = 0; i < parts_n; i++) {
        uint8_t length[8];
        store_u64(length, parts[i].size);
        done = crypto_generichash_update(&state, length, sizeof(length));
        assert(done == 0);
        if (parts[i].size > 0) {
            done =
                crypto_generichash_update(&state, parts[i].data, parts[i].size);
            assert(done == 0);
        }
    }
    done = crypto_generichash_final(&state, ret_hash, FLEET_KEY_SIZE);
    assert(done == 0);
}

void fleet_entry_hash(const fleet_key_t previous, uint64_t seq,
                      fleet_bytes_t event, fleet_bytes_t beside,
                      fleet_key_t ret_hash) {
    uint8_t octets[8];
    store_u64(octets, seq);
    const fleet_bytes_t parts[] = {
        {previous, FLEET_KEY_SIZE}, {octets, sizeof(octets)}, event, beside};
    fleet_hash(parts, sizeof(parts) / sizeof(parts[0]), ret_hash);
}
