// SPDX-License-Identifier: MIT
//
// See ktext.h.

#include "node/agents/ktext.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLANKS " \t\n"

bool ktext_read(int dir, const char *path, char *text, size_t size) {
    int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    ssize_t n = read(fd, text, size - 1);
    close(fd);
    if (n < 0) {
        return false;
    }
    if (n > 0 && text[n - 1] == '\n') {
        n--;
    }
    text[n] = '\0';
    return true;
}

bool ktext_mount_id(int fd, uint64_t *ret_id) {
    char path[32];
    char text[512];
    snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
    if (!ktext_read(AT_FDCWD, path, text, sizeof(text))) {
        return false;
    }
    const char *at = strstr(text, "mnt_id:");
    return at && ktext_word(&at, "mnt_id:") && ktext_number(&at, 10, ret_id);
}

bool ktext_number(const char **at, int base, uint64_t *ret_number) {
    const char *from = *at + strspn(*at, BLANKS);
    if (!isxdigit((unsigned char)*from)) {
        return false; // strtoull would take a sign
    }
    char *end = NULL;
    errno = 0;
    unsigned long long number = strtoull(from, &end, base);
    if (end == from || errno != 0) {
        return false;
    }
    *at = end;
    *ret_number = number;
    return true;
}

bool ktext_word(const char **at, const char *word) {
    size_t n = strlen(word);
    if (strncmp(*at, word, n) != 0) {
        return false;
    }
    *at += n;
    return true;
}

bool ktext_skip(const char **at, unsigned n) {
    const char *to = *at;
    for (unsigned i = 0; i < n; i++) {
        to += strspn(to, BLANKS);
        if (*to == '\0') {
            return false;
        }
        to += strcspn(to, BLANKS);
    }
    *at = to;
    return true;
}
