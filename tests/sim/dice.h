// SPDX-License-Identifier: MIT
//
// Chance of one history: everything that is drawn comes from one seed, in one
// order, so that the seed is the history (xoshiro256**, splitmix64).

#ifndef SIM_DICE_H
#define SIM_DICE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct dice {
    uint64_t s[4];
} dice_t;

void dice_seed(dice_t *dice, uint64_t seed);
uint64_t dice_next(dice_t *dice);
// Evenly from low to high, both included.
uint64_t dice_range(dice_t *dice, uint64_t low, uint64_t high);
// True in `permyriad` of 10000 cases.
bool dice_hit(dice_t *dice, uint32_t permyriad);
// From low to high with every order of magnitude equally likely; low >= 1.
uint64_t dice_spread(dice_t *dice, uint64_t low, uint64_t high);

#endif
