// SPDX-License-Identifier: MIT
//
// Chance, as dice.h says.

#include "tests/sim/dice.h"

#include <assert.h>

static uint64_t rotate(uint64_t x, int k) {
    return (x << k) | (x >> (64 - k));
}

void dice_seed(dice_t *dice, uint64_t seed) {
    for (int i = 0; i < 4; i++) {
        seed += UINT64_C(0x9e3779b97f4a7c15);
        uint64_t z = seed;
        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        dice->s[i] = z ^ (z >> 31);
    }
}

uint64_t dice_next(dice_t *dice) {
    uint64_t *s = dice->s;
    uint64_t result = rotate(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return result;
}

uint64_t dice_range(dice_t *dice, uint64_t low, uint64_t high) {
    assert(low <= high);
    return low + dice_next(dice) % (high - low + 1);
}

bool dice_hit(dice_t *dice, uint32_t permyriad) {
    return dice_next(dice) % 10000 < permyriad;
}

uint64_t dice_spread(dice_t *dice, uint64_t low, uint64_t high) {
    assert(low >= 1 && low <= high);
    unsigned doublings = 0;
    while (low << (doublings + 1) <= high && doublings < 62) {
        doublings++;
    }
    uint64_t bottom = low << dice_range(dice, 0, doublings);
    uint64_t top = bottom * 2 - 1 < high ? bottom * 2 - 1 : high;
    return dice_range(dice, bottom, top);
}
