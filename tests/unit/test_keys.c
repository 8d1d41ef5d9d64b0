// SPDX-License-Identifier: MIT
//
// Key files that must be read and those that must be refused; signatures and
// hashes against values that other tools give.

#include "proto/keys.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/text.h"

static char folder[] = "/tmp/fleet-test-keys-XXXXXX";
static char path[128];

static int set_up(void **state) {
    (void)state;
    fleet_keys_init();
    if (mkdtemp(folder) == NULL) {
        return -1;
    }
    snprintf(path, sizeof(path), "%s/key", folder);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    unlink(path);
    return rmdir(folder);
}

static void write_file(const char *text, size_t size, mode_t mode) {
    unlink(path);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path, mode), 0);
}

static void assert_refused(const char *with) {
    fleet_text_t why = "";
    fleet_key_pair_t pair;
    memset(&pair, 0x5a, sizeof(pair));
    fleet_key_pair_t untouched = pair;
    assert_int_equal(fleet_key_file_read(path, &pair, why), FLEET_BAD_KEY);
    assert_memory_equal(&pair, &untouched, sizeof(pair));
    assert_non_null(strstr(why, path));
    if (strstr(why, with) == NULL) {
        fail_msg("\"%s\" is not in \"%s\"", with, why);
    }
}

#define DIGITS                                                                 \
    "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"

static void test_file_there_and_back(void **state) {
    (void)state;
    fleet_key_pair_t made;
    fleet_key_pair_t got;
    fleet_text_t why = "";
    fleet_key_pair_make(&made);
    unlink(path);
    assert_int_equal(fleet_key_file_write(path, &made, why), FLEET_OK);
    struct stat stat_;
    assert_int_equal(stat(path, &stat_), 0);
    assert_int_equal(stat_.st_mode & 07777, 0600);
    assert_int_equal(fleet_key_file_read(path, &got, why), FLEET_OK);
    assert_memory_equal(&got, &made, sizeof(made));
    // Never over another key.
    assert_int_equal(fleet_key_file_write(path, &made, why), FLEET_BAD_KEY);
    assert_non_null(strstr(why, "not overwritten"));
    fleet_key_pair_wipe(&made);
    static const fleet_key_pair_t zero;
    assert_memory_equal(&made, &zero, sizeof(zero));
}

// RFC 7748, 6.1: Alice's keys.
static void test_public_key_is_computed(void **state) {
    (void)state;
    write_file("# of Alice\n\n" DIGITS "\n",
               strlen("# of Alice\n\n" DIGITS "\n"), 0400);
    fleet_text_t why = "";
    fleet_key_pair_t pair;
    assert_int_equal(fleet_key_file_read(path, &pair, why), FLEET_OK);
    char digits[65];
    fleet_key_print(pair.public_key, digits);
    assert_string_equal(
        digits,
        "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
    fleet_key_short(pair.public_key, digits);
    assert_string_equal(digits, "8520f009");
}

static void test_files_that_are_refused(void **state) {
    (void)state;
    write_file(DIGITS, 64, 0640);
    assert_refused("chmod 600");
    write_file(DIGITS, 64, 0604);
    assert_refused("0604");
    write_file("", 0, 0600);
    assert_refused("holds no key");
    write_file("# nothing\n", 10, 0600);
    assert_refused("holds no key");
    write_file(DIGITS, 63, 0600);
    assert_refused("64 hex digits");
    write_file(DIGITS "0\n", 66, 0600);
    assert_refused("holds no key");
    write_file("z" DIGITS, 64, 0600);
    assert_refused("holds no key");
    write_file(DIGITS "\n" DIGITS "\n", 130, 0600);
    assert_refused("holds no key");
    write_file(DIGITS "\n\0\n", 67, 0600);
    assert_refused("holds no key");
    char large[8192];
    memset(large, '#', sizeof(large));
    write_file(large, sizeof(large), 0600);
    assert_refused("holds no key");
    unlink(path);
    assert_refused("No such file");
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_refused("is not a file");
    unlink(path);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_refused("is not a file");
    assert_int_equal(rmdir(path), 0);
}

static void test_signatures(void **state) {
    (void)state;
    fleet_key_pair_t pair;
    fleet_key_pair_t other;
    fleet_key_pair_make(&pair);
    fleet_key_pair_make(&other);
    fleet_sign_pair_t sign;
    fleet_sign_pair_t again;
    fleet_sign_pair_t foreign;
    fleet_sign_pair_derive(&pair, &sign);
    fleet_sign_pair_derive(&pair, &again);
    fleet_sign_pair_derive(&other, &foreign);
    assert_memory_equal(&sign, &again, sizeof(sign));
    assert_memory_not_equal(sign.public_key, pair.public_key, FLEET_KEY_SIZE);
    fleet_key_t hash = {1, 2, 3};
    fleet_signature_t signature;
    fleet_sign(&sign, hash, signature);
    assert_true(fleet_sign_ok(sign.public_key, hash, signature));
    assert_false(fleet_sign_ok(foreign.public_key, hash, signature));
    hash[31] ^= 1;
    assert_false(fleet_sign_ok(sign.public_key, hash, signature));
    hash[31] ^= 1;
    signature[10] ^= 1;
    assert_false(fleet_sign_ok(sign.public_key, hash, signature));
}

// The lengths keep parts apart; checked against b2sum(1) -l 256 of the same
// bytes.
static void test_hash(void **state) {
    (void)state;
    fleet_key_t hash;
    char digits[65];
    const fleet_bytes_t abc[] = {{"abc", 3}};
    fleet_hash(abc, 1, hash);
    fleet_key_print(hash, digits);
    assert_string_equal(
        digits,
        "3bdc62cfd65e3b78e3d90e32e0a91ebfbc229c30abe54e6abd16c5d4def0db7b");
    fleet_hash(NULL, 0, hash);
    fleet_key_print(hash, digits);
    assert_string_equal(
        digits,
        "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8");
    fleet_key_t one;
    fleet_key_t two;
    const fleet_bytes_t ab_c[] = {{"ab", 2}, {"c", 1}};
    const fleet_bytes_t a_bc[] = {{"a", 1}, {"bc", 2}};
    fleet_hash(ab_c, 2, one);
    fleet_hash(a_bc, 2, two);
    assert_memory_not_equal(one, two, sizeof(one));
}

static void test_entry_hash(void **state) {
    (void)state;
    const fleet_key_t previous = {7};
    const fleet_bytes_t event = {"event", 5};
    const fleet_bytes_t none = {NULL, 0};
    fleet_key_t hash;
    fleet_key_t other;
    fleet_entry_hash(previous, 42, event, none, hash);
    const uint8_t seq[8] = {42};
    const fleet_bytes_t parts[] = {
        {previous, sizeof(previous)}, {seq, sizeof(seq)}, event, none};
    fleet_hash(parts, 4, other);
    assert_memory_equal(hash, other, sizeof(hash));
    fleet_entry_hash(previous, 43, event, none, other);
    assert_memory_not_equal(hash, other, sizeof(hash));
    fleet_entry_hash(previous, 42, none, event, other);
    assert_memory_not_equal(hash, other, sizeof(hash));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_file_there_and_back),
        cmocka_unit_test(test_public_key_is_computed),
        cmocka_unit_test(test_files_that_are_refused),
        cmocka_unit_test(test_signatures),
        cmocka_unit_test(test_hash),
        cmocka_unit_test(test_entry_hash),
    };
    return cmocka_run_group_tests_name("keys", tests, set_up, tear_down);
}
