/* The instruction sets of this processor. The library for the oldest processors answers, and another one is loaded.
 *
 * __builtin_cpu_supports is not used: compiled by zig 0.17 for Windows, it returns 0 for everything. */
#if defined(__x86_64__)
#include <cpuid.h>

#define HAS(bits, all) (((bits) & (all)) == (all))

/* Registers that the operating system saves: 0x6 of AVX, 0xe6 of AVX-512, 0x60000 of AMX. */
static unsigned saved_registers(void) {
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

/* Number of the best level of compiler.py that this processor and its operating system support. */
int siren_cpu_level(void) {
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !HAS(c, 1u << 27 | 1u << 12)) return 0; /* xgetbv; FMA */
    unsigned saved = saved_registers();
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !HAS(b, 1u << 5) || !HAS(saved, 0x6)) return 0; /* AVX2 */
    if (!HAS(b, 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31) || !HAS(saved, 0xe6)) return 1; /* AVX-512 F, DQ, BW, VL */
    if (!HAS(d, 1u << 22 | 1u << 24) || !HAS(saved, 0x60000)) return 2; /* AMX with bfloat16; its registers */
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && HAS(a, 1u << 5) ? 3 : 2; /* AVX-512 with bfloat16 */
}

#else

int siren_cpu_level(void) { return 0; }

#endif
