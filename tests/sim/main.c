// SPDX-License-Identifier: MIT
//
// fleet-sim: histories of a range of seeds, in batches, each in a process of
// its own, so that an assertion of a core costs one history and not the run.
//
//   fleet-sim --seeds FROM-TO [--batch N] [--seconds N]
//   fleet-sim --seed N      one history, with its trace
//
// Exit 0 only if no promise was broken.

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/sim/world.h"

typedef struct shared {
    uint64_t seed;
    uint64_t broken;
    sim_counts_t counts;
} shared_t;

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static bool run_one(uint64_t seed, bool trace, shared_t *shared) {
    char text[512];
    shared->seed = seed;
    if (history_run(seed, trace, &shared->counts, text, sizeof(text))) {
        return true;
    }
    shared->broken++;
    printf("seed %" PRIu64 ": %s\n", seed, text);
    (void)fflush(stdout);
    return false;
}

// From `first` on, again after each seed that killed the process.
static void run_batch(uint64_t first, uint64_t last, shared_t *shared) {
    while (first <= last) {
        shared->seed = first;
        (void)fflush(stdout);
        pid_t child = fork();
        if (child < 0) {
            perror("fork");
            exit(70);
        }
        if (child == 0) {
            for (uint64_t seed = first; seed <= last; seed++) {
                (void)run_one(seed, false, shared);
            }
            (void)fflush(stdout);
            _exit(0);
        }
        int status = 0;
        while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
        }
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
            return;
        }
        shared->broken++;
        printf("seed %" PRIu64 ": the process died (status %d)\n", shared->seed,
               status);
        first = shared->seed + 1;
    }
}

static void print_counts(const sim_counts_t *counts, double took) {
    double hours = (double)counts->simulated_us / 3.6e9;
    printf("%" PRIu64
           " histories in %.1f s, %.1f a second; %.1f simulated "
           "hours, %.0f times as fast as they are\n",
           counts->histories, took, (double)counts->histories / took, hours,
           hours * 3600 / took);
    printf("%" PRIu64 " things happened, %" PRIu64 " messages, %" PRIu64
           " requests, %" PRIu64 " events, %" PRIu64 " grants\n",
           counts->happened, counts->messages, counts->requests, counts->events,
           counts->grants);
    printf("ends:");
    for (int i = 1; i <= (int)fleet_outcome_STUCK; i++) {
        printf(" %s %" PRIu64, fleet_outcome_word((fleet_outcome_t)i),
               counts->outcomes[i]);
    }
    printf("\nevidence:");
    for (int i = 1; i <= (int)fleet_evidence_ATTESTED; i++) {
        printf(" %s %" PRIu64, fleet_evidence_word((fleet_evidence_t)i),
               counts->evidence[i]);
    }
    printf("\nlongest time that two answered for one address: %.3f s\n",
           (double)counts->double_us_max / 1e6);
    for (int i = 0; i < (int)SIM_FAULTS; i++) {
        printf("  %9" PRIu64 " %s\n", counts->faults[i], sim_fault_words[i]);
    }
}

typedef struct options {
    uint64_t from, to, batch, seconds;
    bool trace;
} options_t;

static bool read_number(const char *text, uint64_t *ret_number) {
    char *end = NULL;
    errno = 0;
    uint64_t number = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0') {
        return false;
    }
    *ret_number = number;
    return true;
}

static bool read_range(char *text, options_t *options) {
    char *dash = strchr(text, '-');
    if (dash == NULL) {
        return false;
    }
    *dash = '\0';
    return read_number(text, &options->from) &&
           read_number(dash + 1, &options->to);
}

static bool read_options(int argc, char **argv, options_t *options) {
    bool ok = argc > 1;
    for (int i = 1; ok && i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--seed") == 0) {
            ok = read_number(argv[i + 1], &options->from);
            options->to = options->from;
            options->trace = true;
        } else if (strcmp(argv[i], "--seeds") == 0) {
            ok = read_range(argv[i + 1], options);
        } else if (strcmp(argv[i], "--batch") == 0) {
            ok = read_number(argv[i + 1], &options->batch);
        } else if (strcmp(argv[i], "--seconds") == 0) {
            ok = read_number(argv[i + 1], &options->seconds);
        } else {
            ok = false;
        }
    }
    return ok && argc % 2 == 1 && options->batch > 0 &&
           options->from <= options->to;
}

int main(int argc, char **argv) {
    options_t options = {.batch = 500, .seconds = UINT64_MAX};
    if (!read_options(argc, argv, &options)) {
        (void)fprintf(stderr,
                      "usage: fleet-sim --seed N | --seeds FROM-TO "
                      "[--batch N] [--seconds N]\n");
        return 64;
    }
    shared_t *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
                            // mmap(2) wants -1, which posix.cfg does not know
                            // cppcheck-suppress invalidFunctionArg
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        perror("mmap");
        return 70;
    }
    if (options.trace) {
        (void)setvbuf(stdout, NULL, _IOLBF, 0);
        return run_one(options.from, true, shared) ? 0 : 1;
    }
    double begin = seconds();
    uint64_t passed = 0;
    uint64_t failed = 0;
    for (uint64_t first = options.from; first <= options.to;
         first += options.batch) {
        uint64_t last = first + options.batch - 1;
        last = last < options.to ? last : options.to;
        uint64_t broken = shared->broken;
        run_batch(first, last, shared);
        *(shared->broken == broken ? &passed : &failed) += 1;
        if (seconds() - begin > (double)options.seconds) {
            break;
        }
    }
    print_counts(&shared->counts, seconds() - begin);
    printf("batches: %" PRIu64 " passed, %" PRIu64 " failed\n", passed, failed);
    return failed == 0 ? 0 : 1;
}
