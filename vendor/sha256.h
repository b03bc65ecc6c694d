/*
 * sha256.h - SHA-256 (FIPS 180-4) and HMAC-SHA256 (RFC 2104) in one header, C11.
 *
 * Everything is static: include the file wherever it is needed, there is nothing to link. The functions allocate
 * nothing, cannot fail, and need only <string.h> from the C library.
 *
 *     struct sha256 s;                                struct hmac_sha256 keyed, h;
 *     sha256_init(&s);                                hmac_sha256_init(&keyed, key, key_length);
 *     sha256_update(&s, data, length);                h = keyed;
 *     sha256_final(&s, digest);                       hmac_sha256_update(&h, data, length);
 *                                                     hmac_sha256_final(&h, mac);
 *
 * The blocks are hashed by one of three backends, which give the same digests: portable C, the SHA extensions of x86,
 * the SHA-2 instructions of ARMv8. The first call asks the CPU which it has; no compiler flag is needed.
 *
 * Threads: separate states may be used by separate threads at any time. One state belongs to one thread at a time.
 *
 * test     cc -std=c11 -O2 -x c -DSHA256_TEST sha256.h -o t && ./t              (./t --seed N repeats a run)
 * compare  ./t --hash < file                                                    (./t --hash portable picks a backend)
 * measure  ./t --bench
 *
 * Sections: 1. Interface  2. Constants  3. Portable  4. x86  5. ARM  6. Choice of backend  7. SHA-256  8. HMAC
 *           9. Self-test and benchmark
 */
#ifndef SHA256_H
#define SHA256_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* ======== 1. Interface ======== */

/* A program that uses only some of the functions must not be warned about the others. */
#define SHA256_API static __attribute__((unused))
#define SHA256_INLINE static inline __attribute__((always_inline, unused))

enum { SHA256_BLOCK_BYTES = 64, SHA256_DIGEST_BYTES = 32 };

/* Invariant: state holds the hash of all whole blocks so far; the first length % 64 bytes of block are the rest. */
struct sha256 {
    uint32_t state[8];
    uint64_t length; /* bytes taken in so far; FIPS 180-4 allows less than 2^61 */
    uint8_t block[64];
};

/* A plain value: after hmac_sha256_init it may be copied, and each copy used for one message. */
struct hmac_sha256 {
    struct sha256 inner; /* starts with the key xor 0x36, then takes the message */
    struct sha256 outer; /* starts with the key xor 0x5c, then takes the digest of inner */
};

enum sha256_backend { SHA256_PORTABLE, SHA256_X86, SHA256_ARM };

SHA256_API void sha256_init(struct sha256 *s);
SHA256_API void sha256_update(struct sha256 *s, const void *data, size_t length);

/* Takes the same data into two distinct states. When both hold equally many bytes of an unfinished block, the data is
 * read once and the work on the two states overlaps; otherwise this is the same as two calls of sha256_update. */
SHA256_API void sha256_update2(struct sha256 *a, struct sha256 *b, const void *data, size_t length);

/* Writes the digest. The state is used up by this: sha256_init must come before the next message. */
SHA256_API void sha256_final(struct sha256 *s, uint8_t digest[32]);
SHA256_API void sha256_digest(const void *data, size_t length, uint8_t digest[32]);

SHA256_API void hmac_sha256_init(struct hmac_sha256 *h, const void *key, size_t key_length);
SHA256_API void hmac_sha256_update(struct hmac_sha256 *h, const void *data, size_t length);
SHA256_API void hmac_sha256_final(struct hmac_sha256 *h, uint8_t mac[32]);

/* Compares in a time that depends on the length only, so that a MAC cannot be guessed byte by byte. */
SHA256_API bool sha256_equal(const uint8_t *a, const uint8_t *b, size_t length);

/* The backend in use. The choice is kept per source file that includes this header. */
SHA256_API enum sha256_backend sha256_backend(void);
SHA256_API const char *sha256_backend_name(void);

/* For tests: uses this backend from now on; false, and no change, if this CPU or this build lacks it. */
SHA256_API bool sha256_use(enum sha256_backend backend);

/* ======== 2. Constants ======== */

/* The first 32 bits of the fractional parts of the cube roots of the first 64 primes (FIPS 180-4, 4.2.2). Aligned so
 * that the vector backends can add them straight from memory. */
_Alignas(64) __attribute__((unused)) static const uint32_t sha256_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

/* ======== 3. Portable ======== */

/* Every backend offers two functions: blocks hashes whole blocks into one state, blocks2 hashes the same blocks into
 * two states. Words are put together from bytes, so neither alignment nor byte order of the machine matters. */

SHA256_INLINE uint32_t sha256_load32(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | (uint32_t)p[3];
}

SHA256_INLINE void sha256_store32(uint8_t *p, uint32_t value) {
    p[0] = (uint8_t)(value >> 24);
    p[1] = (uint8_t)(value >> 16);
    p[2] = (uint8_t)(value >> 8);
    p[3] = (uint8_t)value;
}

SHA256_INLINE uint32_t sha256_rotate(uint32_t x, unsigned count) {
    return x >> count | x << (32 - count);
}

/* Replaces the schedule word that round i used up by the one needed sixteen rounds later. */
SHA256_INLINE void sha256_extend(uint32_t w[16], unsigned i) {
    uint32_t early = w[(i + 1) % 16], late = w[(i + 14) % 16];
    uint32_t sigma0 = sha256_rotate(early, 7) ^ sha256_rotate(early, 18) ^ early >> 3;
    uint32_t sigma1 = sha256_rotate(late, 17) ^ sha256_rotate(late, 19) ^ late >> 10;
    w[i] += sigma0 + w[(i + 9) % 16] + sigma1;
}

/* One round, and the schedule behind it if extend is set. Instead of moving the eight variables along, each round finds
 * them one place further down; i is a constant once this is inlined, so all of them stay in registers. Choice and
 * majority are written with fewer operations than in the standard, and have the same truth tables. */
SHA256_INLINE void sha256_round(uint32_t v[8], uint32_t w[16], const uint32_t *constants, unsigned i, bool extend) {
    uint32_t a = v[(0 - i) % 8], b = v[(1 - i) % 8], c = v[(2 - i) % 8];
    uint32_t e = v[(4 - i) % 8], f = v[(5 - i) % 8], g = v[(6 - i) % 8];
    uint32_t sum1 = sha256_rotate(e, 6) ^ sha256_rotate(e, 11) ^ sha256_rotate(e, 25);
    uint32_t sum0 = sha256_rotate(a, 2) ^ sha256_rotate(a, 13) ^ sha256_rotate(a, 22);
    uint32_t choice = g ^ (e & (f ^ g));
    uint32_t mixed = v[(7 - i) % 8] + (w[i] + constants[i]) + choice + sum1;
    v[(3 - i) % 8] += mixed;
    v[(7 - i) % 8] = mixed + (a & b) + (c & (a ^ b)) + sum0;
    if (extend) { sha256_extend(w, i); }
}

/* After sixteen rounds, a multiple of eight, every variable is back in its place. */
SHA256_INLINE void sha256_sixteen(uint32_t state[8], uint32_t w[16], const uint32_t *constants, bool extend) {
    uint32_t v[8];
    memcpy(v, state, sizeof v);
    sha256_round(v, w, constants, 0, extend);
    sha256_round(v, w, constants, 1, extend);
    sha256_round(v, w, constants, 2, extend);
    sha256_round(v, w, constants, 3, extend);
    sha256_round(v, w, constants, 4, extend);
    sha256_round(v, w, constants, 5, extend);
    sha256_round(v, w, constants, 6, extend);
    sha256_round(v, w, constants, 7, extend);
    sha256_round(v, w, constants, 8, extend);
    sha256_round(v, w, constants, 9, extend);
    sha256_round(v, w, constants, 10, extend);
    sha256_round(v, w, constants, 11, extend);
    sha256_round(v, w, constants, 12, extend);
    sha256_round(v, w, constants, 13, extend);
    sha256_round(v, w, constants, 14, extend);
    sha256_round(v, w, constants, 15, extend);
    memcpy(state, v, sizeof v);
}

SHA256_INLINE void sha256_words(uint32_t w[16], const uint8_t *block) {
    for (int i = 0; i < 16; i++) { w[i] = sha256_load32(block + 4 * i); }
}

SHA256_API void sha256_portable_blocks(uint32_t state[8], const uint8_t *data, size_t blocks) {
    for (; blocks != 0; blocks--, data += SHA256_BLOCK_BYTES) {
        uint32_t v[8], w[16];
        memcpy(v, state, sizeof v);
        sha256_words(w, data);
        for (int i = 0; i < 48; i += 16) { sha256_sixteen(v, w, sha256_constants + i, true); }
        sha256_sixteen(v, w, sha256_constants + 48, false);
        for (int i = 0; i < 8; i++) { state[i] += v[i]; }
    }
}

/* General registers are too few to overlap two states, so these take turns while the block is in the nearest cache. */
SHA256_API void sha256_portable_blocks2(uint32_t a[8], uint32_t b[8], const uint8_t *data, size_t blocks) {
    for (; blocks != 0; blocks--, data += SHA256_BLOCK_BYTES) {
        sha256_portable_blocks(a, data, 1);
        sha256_portable_blocks(b, data, 1);
    }
}

/* ======== 4. x86 ======== */

/* SHA256RNDS2 does two rounds and takes the state as two vectors, {a,b,e,f} and {c,d,g,h} from the highest lane down.
 * It has a latency of several cycles on which the next one waits, so one stream leaves the unit idle part of the time:
 * that is the room in which a second state is hashed almost for free. */

#if defined(__x86_64__) || defined(__i386__)
#define SHA256_HAS_X86 1

#include <cpuid.h>
#include <immintrin.h>

#define SHA256_X86_CODE __attribute__((target("sha,sse4.1,ssse3"), unused)) static
#define SHA256_X86_STEP __attribute__((target("sha,sse4.1,ssse3"), always_inline, unused)) static inline

struct sha256_x86_state {
    __m128i abef, cdgh;
};

SHA256_X86_STEP struct sha256_x86_state sha256_x86_load(const uint32_t state[8]) {
    __m128i abcd = _mm_loadu_si128((const void *)state);
    __m128i efgh = _mm_loadu_si128((const void *)(state + 4));
    struct sha256_x86_state s;
    s.abef = _mm_shuffle_epi32(_mm_unpacklo_epi64(abcd, efgh), 0x1b);
    s.cdgh = _mm_shuffle_epi32(_mm_unpackhi_epi64(abcd, efgh), 0x1b);
    return s;
}

SHA256_X86_STEP void sha256_x86_store(uint32_t state[8], struct sha256_x86_state s) {
    __m128i abef = _mm_shuffle_epi32(s.abef, 0x1b);
    __m128i cdgh = _mm_shuffle_epi32(s.cdgh, 0x1b);
    _mm_storeu_si128((void *)state, _mm_unpacklo_epi64(abef, cdgh));
    _mm_storeu_si128((void *)(state + 4), _mm_unpackhi_epi64(abef, cdgh));
}

/* Loads the sixteen words of a block, whose bytes are big-endian. */
SHA256_X86_STEP void sha256_x86_words(__m128i w[4], const uint8_t *block) {
    const __m128i order = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    w[0] = _mm_shuffle_epi8(_mm_loadu_si128((const void *)block), order);
    w[1] = _mm_shuffle_epi8(_mm_loadu_si128((const void *)(block + 16)), order);
    w[2] = _mm_shuffle_epi8(_mm_loadu_si128((const void *)(block + 32)), order);
    w[3] = _mm_shuffle_epi8(_mm_loadu_si128((const void *)(block + 48)), order);
}

/* The four schedule words that follow the sixteen in w0 to w3. */
SHA256_X86_STEP __m128i sha256_x86_next(__m128i w0, __m128i w1, __m128i w2, __m128i w3) {
    __m128i seven_back = _mm_alignr_epi8(w3, w2, 4);
    return _mm_sha256msg2_epu32(_mm_add_epi32(_mm_sha256msg1_epu32(w0, w1), seven_back), w3);
}

/* Four rounds on one state, or on two when b is not NULL; the compiler knows which once this is inlined. */
SHA256_X86_STEP void sha256_x86_four(struct sha256_x86_state *a, struct sha256_x86_state *b, __m128i w,
                                     const uint32_t *constants) {
    __m128i low = _mm_add_epi32(w, _mm_load_si128((const void *)constants));
    __m128i high = _mm_shuffle_epi32(low, 0x0e);
    a->cdgh = _mm_sha256rnds2_epu32(a->cdgh, a->abef, low);
    if (b != NULL) { b->cdgh = _mm_sha256rnds2_epu32(b->cdgh, b->abef, low); }
    a->abef = _mm_sha256rnds2_epu32(a->abef, a->cdgh, high);
    if (b != NULL) { b->abef = _mm_sha256rnds2_epu32(b->abef, b->cdgh, high); }
}

/* Sixteen rounds, during which the next sixteen schedule words replace those in w. */
SHA256_X86_STEP void sha256_x86_sixteen(struct sha256_x86_state *a, struct sha256_x86_state *b, __m128i w[4],
                                        const uint32_t *constants) {
    sha256_x86_four(a, b, w[0], constants);
    w[0] = sha256_x86_next(w[0], w[1], w[2], w[3]);
    sha256_x86_four(a, b, w[1], constants + 4);
    w[1] = sha256_x86_next(w[1], w[2], w[3], w[0]);
    sha256_x86_four(a, b, w[2], constants + 8);
    w[2] = sha256_x86_next(w[2], w[3], w[0], w[1]);
    sha256_x86_four(a, b, w[3], constants + 12);
    w[3] = sha256_x86_next(w[3], w[0], w[1], w[2]);
}

SHA256_X86_STEP void sha256_x86_block(struct sha256_x86_state *a, struct sha256_x86_state *b, const uint8_t *block) {
    __m128i w[4];
    sha256_x86_words(w, block);
    sha256_x86_sixteen(a, b, w, sha256_constants);
    sha256_x86_sixteen(a, b, w, sha256_constants + 16);
    sha256_x86_sixteen(a, b, w, sha256_constants + 32);
    sha256_x86_four(a, b, w[0], sha256_constants + 48);
    sha256_x86_four(a, b, w[1], sha256_constants + 52);
    sha256_x86_four(a, b, w[2], sha256_constants + 56);
    sha256_x86_four(a, b, w[3], sha256_constants + 60);
}

SHA256_X86_STEP void sha256_x86_add(struct sha256_x86_state *s, struct sha256_x86_state before) {
    s->abef = _mm_add_epi32(s->abef, before.abef);
    s->cdgh = _mm_add_epi32(s->cdgh, before.cdgh);
}

SHA256_X86_CODE void sha256_x86_blocks(uint32_t state[8], const uint8_t *data, size_t blocks) {
    struct sha256_x86_state s = sha256_x86_load(state);
    for (; blocks != 0; blocks--, data += SHA256_BLOCK_BYTES) {
        struct sha256_x86_state before = s;
        sha256_x86_block(&s, NULL, data);
        sha256_x86_add(&s, before);
    }
    sha256_x86_store(state, s);
}

SHA256_X86_CODE void sha256_x86_blocks2(uint32_t a[8], uint32_t b[8], const uint8_t *data, size_t blocks) {
    struct sha256_x86_state s = sha256_x86_load(a), t = sha256_x86_load(b);
    for (; blocks != 0; blocks--, data += SHA256_BLOCK_BYTES) {
        struct sha256_x86_state s_before = s, t_before = t;
        sha256_x86_block(&s, &t, data);
        sha256_x86_add(&s, s_before);
        sha256_x86_add(&t, t_before);
    }
    sha256_x86_store(a, s);
    sha256_x86_store(b, t);
}

/* The SHA extensions work on the SSE registers, which every system that runs this saves: CPUID alone decides. */
SHA256_API bool sha256_x86_present(void) {
    const unsigned ssse3 = 1u << 9, sse41 = 1u << 19, sha = 1u << 29;
    unsigned eax, ebx, ecx, edx;
    if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) == 0 || (ecx & ssse3) == 0 || (ecx & sse41) == 0) { return false; }
    return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (ebx & sha) != 0;
}
#endif

/* ======== 5. ARM ======== */

/* SHA256H and SHA256H2 do four rounds each on one half of the state, and here too a second state fills the gaps. GCC
 * offers the instructions function by function, on 32-bit ARM as well if floats are passed in registers. Clang before
 * version 16, and Clang on 32-bit ARM, declare them only when -march allows them everywhere; without that the portable
 * backend stays. Big-endian ARM is left to the portable backend too. */

#if defined(__linux__) && !defined(__ARM_BIG_ENDIAN) && !defined(__AARCH64EB__)
#if defined(__ARM_FEATURE_SHA2) || defined(__ARM_FEATURE_CRYPTO)
#define SHA256_ARM_TARGET
#elif defined(__aarch64__) && defined(__clang__)
#if __clang_major__ >= 16
#define SHA256_ARM_TARGET target("sha2"),
#endif
#elif defined(__aarch64__)
#define SHA256_ARM_TARGET target("+crypto"),
#elif defined(__arm__) && defined(__ARM_PCS_VFP) && !defined(__clang__)
#define SHA256_ARM_TARGET target("arch=armv8-a,fpu=crypto-neon-fp-armv8"),
#endif
#endif

#ifdef SHA256_ARM_TARGET
#define SHA256_HAS_ARM 1

#include <arm_neon.h>
#include <sys/auxv.h>

#define SHA256_ARM_CODE __attribute__((SHA256_ARM_TARGET unused)) static
#define SHA256_ARM_STEP __attribute__((SHA256_ARM_TARGET always_inline, unused)) static inline

struct sha256_arm_state {
    uint32x4_t abcd, efgh;
};

SHA256_ARM_STEP struct sha256_arm_state sha256_arm_load(const uint32_t state[8]) {
    struct sha256_arm_state s;
    s.abcd = vld1q_u32(state);
    s.efgh = vld1q_u32(state + 4);
    return s;
}

SHA256_ARM_STEP void sha256_arm_store(uint32_t state[8], struct sha256_arm_state s) {
    vst1q_u32(state, s.abcd);
    vst1q_u32(state + 4, s.efgh);
}

/* Loads the sixteen words of a block, whose bytes are big-endian. */
SHA256_ARM_STEP void sha256_arm_words(uint32x4_t w[4], const uint8_t *block) {
    w[0] = vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8(block)));
    w[1] = vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8(block + 16)));
    w[2] = vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8(block + 32)));
    w[3] = vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8(block + 48)));
}

/* The four schedule words that follow the sixteen in w0 to w3. */
SHA256_ARM_STEP uint32x4_t sha256_arm_next(uint32x4_t w0, uint32x4_t w1, uint32x4_t w2, uint32x4_t w3) {
    return vsha256su1q_u32(vsha256su0q_u32(w0, w1), w2, w3);
}

/* Four rounds on one state, or on two when b is not NULL; the compiler knows which once this is inlined. */
SHA256_ARM_STEP void sha256_arm_four(struct sha256_arm_state *a, struct sha256_arm_state *b, uint32x4_t w,
                                     const uint32_t *constants) {
    uint32x4_t keyed = vaddq_u32(w, vld1q_u32(constants));
    uint32x4_t a_abcd = a->abcd;
    a->abcd = vsha256hq_u32(a->abcd, a->efgh, keyed);
    a->efgh = vsha256h2q_u32(a->efgh, a_abcd, keyed);
    if (b != NULL) {
        uint32x4_t b_abcd = b->abcd;
        b->abcd = vsha256hq_u32(b->abcd, b->efgh, keyed);
        b->efgh = vsha256h2q_u32(b->efgh, b_abcd, keyed);
    }
}

/* Sixteen rounds, during which the next sixteen schedule words replace those in w. */
SHA256_ARM_STEP void sha256_arm_sixteen(struct sha256_arm_state *a, struct sha256_arm_state *b, uint32x4_t w[4],
                                        const uint32_t *constants) {
    sha256_arm_four(a, b, w[0], constants);
    w[0] = sha256_arm_next(w[0], w[1], w[2], w[3]);
    sha256_arm_four(a, b, w[1], constants + 4);
    w[1] = sha256_arm_next(w[1], w[2], w[3], w[0]);
    sha256_arm_four(a, b, w[2], constants + 8);
    w[2] = sha256_arm_next(w[2], w[3], w[0], w[1]);
    sha256_arm_four(a, b, w[3], constants + 12);
    w[3] = sha256_arm_next(w[3], w[0], w[1], w[2]);
}

SHA256_ARM_STEP void sha256_arm_block(struct sha256_arm_state *a, struct sha256_arm_state *b, const uint8_t *block) {
    uint32x4_t w[4];
    sha256_arm_words(w, block);
    sha256_arm_sixteen(a, b, w, sha256_constants);
    sha256_arm_sixteen(a, b, w, sha256_constants + 16);
    sha256_arm_sixteen(a, b, w, sha256_constants + 32);
    sha256_arm_four(a, b, w[0], sha256_constants + 48);
    sha256_arm_four(a, b, w[1], sha256_constants + 52);
    sha256_arm_four(a, b, w[2], sha256_constants + 56);
    sha256_arm_four(a, b, w[3], sha256_constants + 60);
}

SHA256_ARM_STEP void sha256_arm_add(struct sha256_arm_state *s, struct sha256_arm_state before) {
    s->abcd = vaddq_u32(s->abcd, before.abcd);
    s->efgh = vaddq_u32(s->efgh, before.efgh);
}

SHA256_ARM_CODE void sha256_arm_blocks(uint32_t state[8], const uint8_t *data, size_t blocks) {
    struct sha256_arm_state s = sha256_arm_load(state);
    for (; blocks != 0; blocks--, data += SHA256_BLOCK_BYTES) {
        struct sha256_arm_state before = s;
        sha256_arm_block(&s, NULL, data);
        sha256_arm_add(&s, before);
    }
    sha256_arm_store(state, s);
}

SHA256_ARM_CODE void sha256_arm_blocks2(uint32_t a[8], uint32_t b[8], const uint8_t *data, size_t blocks) {
    struct sha256_arm_state s = sha256_arm_load(a), t = sha256_arm_load(b);
    for (; blocks != 0; blocks--, data += SHA256_BLOCK_BYTES) {
        struct sha256_arm_state s_before = s, t_before = t;
        sha256_arm_block(&s, &t, data);
        sha256_arm_add(&s, s_before);
        sha256_arm_add(&t, t_before);
    }
    sha256_arm_store(a, s);
    sha256_arm_store(b, t);
}

/* The kernel lists the instructions in the auxiliary vector: bit 6 of AT_HWCAP (16) on 64-bit ARM, bit 3 of AT_HWCAP2
 * (26) on 32-bit ARM. The numbers are fixed; older headers lack the names. */
SHA256_API bool sha256_arm_present(void) {
#ifdef __aarch64__
    return (getauxval(16) & 1ul << 6) != 0;
#else
    return (getauxval(26) & 1ul << 3) != 0;
#endif
}
#endif

/* ======== 6. Choice of backend ======== */

/* Holds 0 until the CPU was asked, then the backend plus 1. Several threads may ask at once: each finds the same, and
 * nothing else is published with the value, so relaxed order is enough. */
__attribute__((unused)) static int sha256_chosen;

SHA256_API bool sha256_present(enum sha256_backend backend) {
    switch (backend) {
    case SHA256_PORTABLE:
        return true;
    case SHA256_X86:
#ifdef SHA256_HAS_X86
        return sha256_x86_present();
#else
        return false;
#endif
    case SHA256_ARM:
#ifdef SHA256_HAS_ARM
        return sha256_arm_present();
#else
        return false;
#endif
    }
    return false;
}

/* The exchange lets an earlier sha256_use of another thread win over this detection. */
SHA256_API enum sha256_backend sha256_detect(void) {
    enum sha256_backend found = SHA256_PORTABLE;
    if (sha256_present(SHA256_X86)) {
        found = SHA256_X86;
    } else if (sha256_present(SHA256_ARM)) {
        found = SHA256_ARM;
    }
    int expected = 0;
    if (!__atomic_compare_exchange_n(&sha256_chosen, &expected, (int)found + 1, false, __ATOMIC_RELAXED,
                                     __ATOMIC_RELAXED)) {
        found = (enum sha256_backend)(expected - 1);
    }
    return found;
}

SHA256_API enum sha256_backend sha256_backend(void) {
    int chosen = __atomic_load_n(&sha256_chosen, __ATOMIC_RELAXED);
    return chosen != 0 ? (enum sha256_backend)(chosen - 1) : sha256_detect();
}

SHA256_API const char *sha256_backend_name(void) {
    static const char *const names[] = {"portable", "x86", "arm"};
    return names[sha256_backend()];
}

SHA256_API bool sha256_use(enum sha256_backend backend) {
    if (!sha256_present(backend)) { return false; }
    __atomic_store_n(&sha256_chosen, (int)backend + 1, __ATOMIC_RELAXED);
    return true;
}

SHA256_API void sha256_blocks(uint32_t state[8], const uint8_t *data, size_t blocks) {
    enum sha256_backend backend = sha256_backend();
#ifdef SHA256_HAS_X86
    if (backend == SHA256_X86) {
        sha256_x86_blocks(state, data, blocks);
        return;
    }
#endif
#ifdef SHA256_HAS_ARM
    if (backend == SHA256_ARM) {
        sha256_arm_blocks(state, data, blocks);
        return;
    }
#endif
    (void)backend;
    sha256_portable_blocks(state, data, blocks);
}

SHA256_API void sha256_blocks2(uint32_t a[8], uint32_t b[8], const uint8_t *data, size_t blocks) {
    enum sha256_backend backend = sha256_backend();
#ifdef SHA256_HAS_X86
    if (backend == SHA256_X86) {
        sha256_x86_blocks2(a, b, data, blocks);
        return;
    }
#endif
#ifdef SHA256_HAS_ARM
    if (backend == SHA256_ARM) {
        sha256_arm_blocks2(a, b, data, blocks);
        return;
    }
#endif
    (void)backend;
    sha256_portable_blocks2(a, b, data, blocks);
}

/* ======== 7. SHA-256 ======== */

SHA256_INLINE size_t sha256_buffered(const struct sha256 *s) {
    return (size_t)(s->length % SHA256_BLOCK_BYTES);
}

/* The block is left as it is: of it only bytes that update wrote are ever read. */
SHA256_API void sha256_init(struct sha256 *s) {
    static const uint32_t initial[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                        0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memcpy(s->state, initial, sizeof initial);
    s->length = 0;
}

SHA256_API void sha256_update(struct sha256 *s, const void *data, size_t length) {
    const uint8_t *bytes = data;
    size_t used = sha256_buffered(s);
    if (length == 0) { /* data may be NULL here, which memcpy does not allow */
        return;
    }
    s->length += length;
    if (used != 0) {
        size_t room = SHA256_BLOCK_BYTES - used;
        if (length < room) {
            memcpy(s->block + used, bytes, length);
            return;
        }
        memcpy(s->block + used, bytes, room);
        sha256_blocks(s->state, s->block, 1);
        bytes += room;
        length -= room;
    }
    size_t whole = length / SHA256_BLOCK_BYTES;
    if (whole != 0) { sha256_blocks(s->state, bytes, whole); }
    memcpy(s->block, bytes + whole * SHA256_BLOCK_BYTES, length % SHA256_BLOCK_BYTES);
}

SHA256_API void sha256_update2(struct sha256 *a, struct sha256 *b, const void *data, size_t length) {
    const uint8_t *bytes = data;
    size_t used = sha256_buffered(a);
    /* Fill up the unfinished blocks first. They may differ, so that each state has to hash its own. */
    size_t first = used == 0 ? 0 : SHA256_BLOCK_BYTES - used;
    if (used != sha256_buffered(b) || length < first + SHA256_BLOCK_BYTES) {
        sha256_update(a, data, length);
        sha256_update(b, data, length);
        return;
    }
    sha256_update(a, bytes, first);
    sha256_update(b, bytes, first);
    size_t whole = (length - first) / SHA256_BLOCK_BYTES;
    size_t rest = (length - first) % SHA256_BLOCK_BYTES;
    sha256_blocks2(a->state, b->state, bytes + first, whole);
    a->length += whole * SHA256_BLOCK_BYTES;
    b->length += whole * SHA256_BLOCK_BYTES;
    sha256_update(a, bytes + length - rest, rest);
    sha256_update(b, bytes + length - rest, rest);
}

/* Padding: a one bit, zeros, and the length in bits as 64 bits, so that the message ends with a block. */
SHA256_API void sha256_final(struct sha256 *s, uint8_t digest[32]) {
    const size_t length_at = SHA256_BLOCK_BYTES - 8;
    uint64_t bits = s->length * 8;
    size_t used = sha256_buffered(s);
    s->block[used++] = 0x80;
    if (used > length_at) {
        memset(s->block + used, 0, SHA256_BLOCK_BYTES - used);
        sha256_blocks(s->state, s->block, 1);
        used = 0;
    }
    memset(s->block + used, 0, length_at - used);
    sha256_store32(s->block + length_at, (uint32_t)(bits >> 32));
    sha256_store32(s->block + length_at + 4, (uint32_t)bits);
    sha256_blocks(s->state, s->block, 1);
    for (int i = 0; i < 8; i++) { sha256_store32(digest + 4 * i, s->state[i]); }
}

SHA256_API void sha256_digest(const void *data, size_t length, uint8_t digest[32]) {
    struct sha256 s;
    sha256_init(&s);
    sha256_update(&s, data, length);
    sha256_final(&s, digest);
}

/* The barrier keeps the compiler from seeing that the result is settled at the first difference. */
SHA256_API bool sha256_equal(const uint8_t *a, const uint8_t *b, size_t length) {
    unsigned difference = 0;
    for (size_t i = 0; i < length; i++) {
        difference |= (unsigned)(a[i] ^ b[i]);
        __asm__("" : "+r"(difference));
    }
    return difference == 0;
}

/* ======== 8. HMAC ======== */

/* Starts a hash with one block: the key, padded with zeros to the length of a block, xor a constant. */
SHA256_API void hmac_sha256_start(struct sha256 *s, const uint8_t key[64], uint8_t constant) {
    uint8_t block[SHA256_BLOCK_BYTES];
    for (size_t i = 0; i < sizeof block; i++) { block[i] = key[i] ^ constant; }
    sha256_init(s);
    sha256_update(s, block, sizeof block);
}

/* A key longer than a block is replaced by its digest (RFC 2104, 2). */
SHA256_API void hmac_sha256_init(struct hmac_sha256 *h, const void *key, size_t key_length) {
    uint8_t padded[SHA256_BLOCK_BYTES] = {0};
    if (key_length > sizeof padded) {
        sha256_digest(key, key_length, padded);
    } else if (key_length != 0) {
        memcpy(padded, key, key_length);
    }
    hmac_sha256_start(&h->inner, padded, 0x36);
    hmac_sha256_start(&h->outer, padded, 0x5c);
}

SHA256_API void hmac_sha256_update(struct hmac_sha256 *h, const void *data, size_t length) {
    sha256_update(&h->inner, data, length);
}

SHA256_API void hmac_sha256_final(struct hmac_sha256 *h, uint8_t mac[32]) {
    uint8_t digest[SHA256_DIGEST_BYTES];
    sha256_final(&h->inner, digest);
    sha256_update(&h->outer, digest, sizeof digest);
    sha256_final(&h->outer, mac);
}

/* ======== 9. Self-test and benchmark ======== */

#ifdef SHA256_TEST

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static unsigned long test_passed, test_failed, test_skipped;
static uint64_t test_random_state;

static void test_check(bool good, const char *what, size_t number) {
    if (good) {
        test_passed++;
        return;
    }
    test_failed++;
    printf("FAILED (%s): %s, case %zu\n", sha256_backend_name(), what, number);
}

/* A linear congruential generator; its high bits are random enough to choose test cases. */
static size_t test_random(size_t limit) {
    test_random_state = test_random_state * 6364136223846793005u + 1442695040888963407u;
    return (size_t)((test_random_state >> 33) % limit);
}

/* Memory of exactly this size, so that a sanitizer sees a read behind its end. */
static uint8_t *test_allocate(size_t length) {
    uint8_t *p = malloc(length != 0 ? length : 1);
    if (p == NULL) {
        fputs("out of memory\n", stderr);
        exit(2);
    }
    return p;
}

static uint8_t *test_random_bytes(size_t length) {
    uint8_t *p = test_allocate(length);
    for (size_t i = 0; i < length; i++) { p[i] = (uint8_t)test_random(256); }
    return p;
}

static void test_hex(char text[65], const uint8_t digest[32]) {
    for (int i = 0; i < 32; i++) {
        text[2 * i] = "0123456789abcdef"[digest[i] >> 4];
        text[2 * i + 1] = "0123456789abcdef"[digest[i] & 15];
    }
    text[64] = '\0';
}

/* Expected digests are hexadecimal; a shorter one stands for a truncated MAC. */
static void test_check_hex(const uint8_t digest[32], const char *expected, const char *what, size_t number) {
    char text[65];
    test_hex(text, digest);
    test_check(strncmp(text, expected, strlen(expected)) == 0, what, number);
}

/* Feeds the data in pieces of random sizes, among them empty ones. */
static void test_update_split(struct sha256 *s, const uint8_t *data, size_t length) {
    while (length != 0) {
        size_t piece = test_random(2) != 0 ? test_random(length + 1) : test_random(length < 70 ? length + 1 : 70);
        sha256_update(s, data, piece);
        data += piece;
        length -= piece;
    }
    sha256_update(s, NULL, 0);
}

/* The examples of FIPS 180-2, appendix B, and the empty message. */
static void test_vectors(void) {
    static const struct {
        const char *message, *digest;
    } vectors[] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
        {"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrst"
         "nopqrstu",
         "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"},
    };
    uint8_t digest[32];
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        sha256_digest(vectors[i].message, strlen(vectors[i].message), digest);
        test_check_hex(digest, vectors[i].digest, "example message", i);
    }
    uint8_t letters[1000];
    struct sha256 s;
    memset(letters, 'a', sizeof letters);
    sha256_init(&s);
    for (int i = 0; i < 1000; i++) { sha256_update(&s, letters, sizeof letters); }
    sha256_final(&s, digest);
    test_check_hex(digest, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0", "a million 'a'", 0);
}

/* Every length from 0 to 300, hence every shape of the padding. The expected value, that of all digests one after the
 * other, was computed with the hashlib of Python. */
static void test_lengths(void) {
    struct sha256 all;
    uint8_t message[300], digest[32];
    sha256_init(&all);
    for (size_t length = 0; length <= sizeof message; length++) {
        for (size_t i = 0; i < length; i++) { message[i] = (uint8_t)(i * 7 + length); }
        sha256_digest(message, length, digest);
        sha256_update(&all, digest, sizeof digest);
    }
    sha256_final(&all, digest);
    test_check_hex(digest, "60d63ff40b5558727a9b786ac0be9300f7ca58fd9ddd3b2f3681b369018a87dc", "all lengths to 300", 0);
}

/* A length that fills all bytes of its field. No test could hash so much: the state is made to believe that it did.
 * The expected value comes from a second implementation of the standard, in Python. */
static void test_long_length(void) {
    struct sha256 s;
    uint8_t digest[32];
    sha256_init(&s);
    s.length = 0x0123456789abcd00;
    sha256_update(&s, "abc", 3);
    sha256_final(&s, digest);
    test_check_hex(digest, "05cac750a573925ced9fda0ad5a3b5c87f170401979b3ca6f70ee3cdaf3a70be", "very long message", 0);
}

/* The pseudorandom messages test of SHAVS 6.4 with the seed and results of SHA256Monte.rsp: each result is the last of
 * a thousand digests, each of them of the three before it, and seeds the next thousand. */
static void test_monte_carlo(void) {
    static const struct {
        int count;
        const char *digest;
    } expected[] = {
        {0, "e93c330ae5447738c8aa85d71a6c80f2a58381d05872d26bdd39f1fcd4f2b788"},
        {1, "2e78f8c8772ea7c9331d41ed3f9cdf27d8f514a99342ee766ee3b8b0d0b121c0"},
        {99, "6a912ba4188391a78e6f13d88ed2d14e13afce9db6f7dcbf4a48c24f3db02778"},
    };
    uint8_t digest[32] = {0x6d, 0x1e, 0x72, 0xad, 0x03, 0xdd, 0xeb, 0x5d, 0xe8, 0x91, 0xe5,
                          0x72, 0xe2, 0x39, 0x6f, 0x8d, 0xa0, 0x15, 0xd8, 0x99, 0xef, 0x0e,
                          0x79, 0x50, 0x31, 0x52, 0xd6, 0x01, 0x0a, 0x3f, 0xe6, 0x91};
    size_t next = 0;
    for (int count = 0; count < 100; count++) {
        uint8_t message[96];
        memcpy(message, digest, 32);
        memcpy(message + 32, digest, 32);
        memcpy(message + 64, digest, 32);
        for (int i = 0; i < 1000; i++) {
            sha256_digest(message, sizeof message, digest);
            memmove(message, message + 32, 64);
            memcpy(message + 64, digest, 32);
        }
        if (count == expected[next].count) {
            test_check_hex(digest, expected[next].digest, "Monte Carlo", (size_t)count);
            next++;
        }
    }
}

/* RFC 4231, 4.2 to 4.8. Keys and messages that are one byte repeated are given as that byte and a count. */
struct test_hmac_case {
    const char *key;
    size_t key_length; /* if more than the text holds, its first byte is repeated */
    const char *message;
    size_t message_length; /* likewise */
    const char *mac;
};

static const struct test_hmac_case test_hmac_cases[] = {
    {"\x0b", 20, "Hi There", 8, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
    {"Jefe", 4, "what do ya want for nothing?", 28, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
    {"\xaa", 20, "\xdd", 50, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"},
    {"\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19", 25, "\xcd",
     50, "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"},
    {"\x0c", 20, "Test With Truncation", 20, "a3b6167473100ee06e0c796c2955552b"},
    {"\xaa", 131, "Test Using Larger Than Block-Size Key - Hash Key First", 54,
     "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"},
    {"\xaa", 131,
     "This is a test using a larger than block-size key and a larger than block-size data. The key needs to be hashed "
     "before being used by the HMAC algorithm.",
     152, "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"},
};

static uint8_t *test_expand(const char *text, size_t length) {
    uint8_t *p = test_allocate(length);
    if (strlen(text) == length) {
        memcpy(p, text, length);
    } else {
        memset(p, text[0], length);
    }
    return p;
}

static void test_hmac_vectors(void) {
    for (size_t i = 0; i < sizeof test_hmac_cases / sizeof test_hmac_cases[0]; i++) {
        const struct test_hmac_case *c = &test_hmac_cases[i];
        uint8_t *key = test_expand(c->key, c->key_length);
        uint8_t *message = test_expand(c->message, c->message_length);
        uint8_t mac[32];
        struct hmac_sha256 keyed, h;
        hmac_sha256_init(&keyed, key, c->key_length);
        h = keyed;
        hmac_sha256_update(&h, message, c->message_length);
        hmac_sha256_final(&h, mac);
        test_check_hex(mac, c->mac, "RFC 4231", i + 1);
        h = keyed;
        test_update_split(&h.inner, message, c->message_length);
        hmac_sha256_final(&h, mac);
        test_check_hex(mac, c->mac, "RFC 4231 from a copied key, in pieces", i + 1);
        free(key);
        free(message);
    }
}

/* HMAC as the formula of RFC 2104 puts it, for keys around the length of a block. */
static void test_hmac_key_lengths(void) {
    for (size_t key_length = 0; key_length <= 130; key_length++) {
        uint8_t *key = test_random_bytes(key_length);
        uint8_t inner[64 + 100] = {0}, outer[64 + 32] = {0}, expected[32], mac[32];
        if (key_length > 64) {
            sha256_digest(key, key_length, inner);
        } else {
            memcpy(inner, key, key_length);
        }
        for (size_t i = 0; i < 64; i++) {
            outer[i] = inner[i] ^ 0x5c;
            inner[i] ^= 0x36;
        }
        memset(inner + 64, 'm', 100);
        sha256_digest(inner, sizeof inner, outer + 64);
        sha256_digest(outer, sizeof outer, expected);
        struct hmac_sha256 h;
        hmac_sha256_init(&h, key_length != 0 ? key : NULL, key_length);
        hmac_sha256_update(&h, inner + 64, 100);
        hmac_sha256_final(&h, mac);
        test_check(sha256_equal(mac, expected, 32), "HMAC with a key of this length", key_length);
        free(key);
    }
}

/* The reference is the portable backend in one piece; the other digest is that of the backend under test. */
static void test_against_portable(enum sha256_backend backend, size_t length) {
    uint8_t *data = test_random_bytes(length);
    uint8_t expected[32], digest[32];
    struct sha256 s;
    sha256_use(SHA256_PORTABLE);
    sha256_digest(data, length, expected);
    sha256_use(backend);
    sha256_digest(data, length, digest);
    test_check(memcmp(digest, expected, 32) == 0, "same as portable, length", length);
    for (int i = 0; i < 3; i++) {
        sha256_init(&s);
        test_update_split(&s, data, length);
        sha256_final(&s, digest);
        test_check(memcmp(digest, expected, 32) == 0, "same as portable in pieces, length", length);
    }
    free(data);
}

/* Two states with prefixes of their own, then common data in pieces: through update2, and one by one. The reference
 * uses the portable backend. Every second case has prefixes of the same phase, every fourth the same prefix. */
static void test_update2_case(enum sha256_backend backend, size_t number) {
    size_t length = test_random(2) != 0 ? test_random(200) : test_random(5000);
    size_t a_length = test_random(200);
    size_t b_length = number % 2 != 0 ? test_random(200) : a_length % 64 + 64 * test_random(3);
    uint8_t *data = test_random_bytes(length), *prefix = test_random_bytes(400);
    uint8_t digest[4][32];
    struct sha256 s[4];
    b_length = number % 4 == 0 ? a_length : b_length;
    const uint8_t *b_prefix = number % 4 == 0 ? prefix : prefix + 200;
    for (int i = 0; i < 4; i++) {
        sha256_init(&s[i]);
        sha256_update(&s[i], i % 2 == 0 ? prefix : b_prefix, i % 2 == 0 ? a_length : b_length);
    }
    for (size_t done = 0, piece; done < length; done += piece) {
        piece = test_random(length - done + 1);
        sha256_update2(&s[0], &s[1], data + done, piece);
    }
    sha256_update2(&s[0], &s[1], NULL, 0);
    sha256_use(SHA256_PORTABLE);
    sha256_update(&s[2], data, length);
    sha256_update(&s[3], data, length);
    sha256_use(backend);
    for (int i = 0; i < 4; i++) { sha256_final(&s[i], digest[i]); }
    test_check(memcmp(digest[0], digest[2], 32) == 0, "update2, first state", number);
    test_check(memcmp(digest[1], digest[3], 32) == 0, "update2, second state", number);
    free(data);
    free(prefix);
}

/* Every start of the data relative to an aligned address gives the same digest. */
static void test_alignment(void) {
    uint8_t *data = test_random_bytes(256), *moved = test_allocate(256 + 64);
    uint8_t expected[32], digest[32];
    sha256_digest(data, 256, expected);
    for (size_t offset = 0; offset < 64; offset++) {
        memcpy(moved + offset, data, 256);
        sha256_digest(moved + offset, 256, digest);
        test_check(memcmp(digest, expected, 32) == 0, "data at this offset", offset);
    }
    free(data);
    free(moved);
}

static void test_equal(void) {
    uint8_t a[32] = {0}, b[32] = {0};
    test_check(sha256_equal(a, b, sizeof a) && sha256_equal(a, b, 0), "equal", 0);
    for (size_t i = 0; i < 8 * sizeof a; i++) {
        b[i / 8] ^= (uint8_t)(1u << i % 8);
        test_check(!sha256_equal(a, b, sizeof a) && sha256_equal(a, b, i / 8), "unequal in this bit", i);
        b[i / 8] = 0;
    }
}

static void test_backend(enum sha256_backend backend, const char *name) {
    if (!sha256_use(backend)) {
        printf("%s: not on this machine, skipped\n", name);
        test_skipped++;
        return;
    }
    test_check(sha256_backend() == backend && strcmp(sha256_backend_name(), name) == 0, "choice of backend", backend);
    test_vectors();
    test_lengths();
    test_long_length();
    test_monte_carlo();
    test_hmac_vectors();
    test_hmac_key_lengths();
    test_alignment();
    for (size_t length = 0; length <= 300; length++) { test_against_portable(backend, length); }
    for (int i = 0; i < 100; i++) { test_against_portable(backend, test_random(20000)); }
    for (size_t i = 0; i < 2000; i++) { test_update2_case(backend, i); }
    printf("%s: tested\n", name);
}

/* ---- Benchmark: each function does one unit of work on the same 256 KiB, which stay in the cache ---- */

enum { BENCH_BYTES = 256 * 1024 };

static uint8_t *bench_data;
static struct hmac_sha256 bench_keyed;
static volatile uint8_t bench_sink; /* keeps the compiler from dropping the work */

static void bench_stream(void) {
    static struct sha256 s;
    sha256_update(&s, bench_data, BENCH_BYTES);
    bench_sink = (uint8_t)s.state[0];
}

static void bench_stream2(void) {
    static struct sha256 a, b;
    sha256_update2(&a, &b, bench_data, BENCH_BYTES);
    bench_sink = (uint8_t)(a.state[0] ^ b.state[0]);
}

static void bench_messages(size_t length) {
    uint8_t digest[32];
    for (size_t at = 0; at < BENCH_BYTES; at += length) {
        sha256_digest(bench_data + at, length, digest);
        bench_sink = digest[0];
    }
}

static void bench_messages_1024(void) {
    bench_messages(1024);
}

static void bench_messages_64(void) {
    bench_messages(64);
}

static void bench_hmac_keyed(void) {
    for (size_t i = 0; i < 1000; i++) {
        uint8_t mac[32];
        struct hmac_sha256 h = bench_keyed;
        hmac_sha256_update(&h, bench_data + i, 100);
        hmac_sha256_final(&h, mac);
        bench_sink = mac[0];
    }
}

static void bench_hmac_fresh(void) {
    for (size_t i = 0; i < 1000; i++) {
        uint8_t mac[32];
        struct hmac_sha256 h;
        hmac_sha256_init(&h, bench_data, 32);
        hmac_sha256_update(&h, bench_data + i, 100);
        hmac_sha256_final(&h, mac);
        bench_sink = mac[0];
    }
}

static double bench_now_seconds(void) {
    struct timespec now;
    timespec_get(&now, TIME_UTC);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Seconds for one call: the best of several runs, which leaves out what other programs took away. */
static double bench_seconds(void (*work)(void)) {
    double best = 1e9;
    for (int run = 0; run < 5; run++) {
        double start = bench_now_seconds(), elapsed;
        unsigned long calls = 0;
        do {
            work();
            calls++;
            elapsed = bench_now_seconds() - start;
        } while (elapsed < 0.1);
        best = elapsed / (double)calls < best ? elapsed / (double)calls : best;
    }
    return best;
}

static void bench_backend(enum sha256_backend backend) {
    if (!sha256_use(backend)) { return; }
    hmac_sha256_init(&bench_keyed, "key", 3);
    printf("%s\n", sha256_backend_name());
    printf("  one stream             %7.3f GB/s\n", BENCH_BYTES / bench_seconds(bench_stream) * 1e-9);
    printf("  update2                %7.3f GB/s into both states\n", BENCH_BYTES / bench_seconds(bench_stream2) * 1e-9);
    printf("  messages of 1 KiB      %7.3f GB/s\n", BENCH_BYTES / bench_seconds(bench_messages_1024) * 1e-9);
    printf("  messages of 64 bytes   %7.3f GB/s\n", BENCH_BYTES / bench_seconds(bench_messages_64) * 1e-9);
    printf("  HMAC of 100 bytes      %7.0f ns, key prepared\n", bench_seconds(bench_hmac_keyed) * 1e6);
    printf("  HMAC of 100 bytes      %7.0f ns, with hmac_sha256_init\n", bench_seconds(bench_hmac_fresh) * 1e6);
}

/* ---- Commands ---- */

static const struct {
    enum sha256_backend backend;
    const char *name;
} test_backends[] = {{SHA256_PORTABLE, "portable"}, {SHA256_X86, "x86"}, {SHA256_ARM, "arm"}};

enum { TEST_BACKENDS = sizeof test_backends / sizeof test_backends[0] };

static int command_test(uint64_t seed) {
    printf("first choice: %s; seed %llu\n", sha256_backend_name(), (unsigned long long)seed);
    test_random_state = seed;
    test_check(!sha256_use((enum sha256_backend)3), "an unknown backend is refused", 3);
    test_equal();
    for (size_t i = 0; i < TEST_BACKENDS; i++) { test_backend(test_backends[i].backend, test_backends[i].name); }
    printf("%lu passed, %lu failed, %lu skipped\n", test_passed, test_failed, test_skipped);
    return test_failed != 0;
}

static int command_bench(void) {
    bench_data = test_random_bytes(BENCH_BYTES);
    for (size_t i = 0; i < TEST_BACKENDS; i++) { bench_backend(test_backends[i].backend); }
    free(bench_data);
    return 0;
}

/* The buffer has an odd size on purpose: the pieces then begin at all phases of a block. */
static int command_hash(void) {
    static uint8_t buffer[65521];
    uint8_t digest[32];
    char text[65];
    struct sha256 s;
    size_t got;
    sha256_init(&s);
    while ((got = fread(buffer, 1, sizeof buffer, stdin)) != 0) { sha256_update(&s, buffer, got); }
    if (ferror(stdin) != 0) {
        perror("standard input");
        return 1;
    }
    sha256_final(&s, digest);
    test_hex(text, digest);
    puts(text);
    return 0;
}

static bool command_use(const char *name) {
    for (size_t i = 0; i < TEST_BACKENDS; i++) {
        if (strcmp(name, test_backends[i].name) == 0) { return sha256_use(test_backends[i].backend); }
    }
    return false;
}

static bool command_seed(const char *text, uint64_t *seed) {
    *seed = 0;
    for (const char *p = text; *p != '\0'; p++) {
        if (*p < '0' || *p > '9' || p - text >= 19) { return false; }
        *seed = *seed * 10 + (uint64_t)(*p - '0');
    }
    return *text != '\0';
}

int main(int argc, char **argv) {
    uint64_t seed = (uint64_t)time(NULL);
    if (argc <= 1 || (argc == 3 && strcmp(argv[1], "--seed") == 0 && command_seed(argv[2], &seed))) {
        return command_test(seed);
    }
    if (argc == 2 && strcmp(argv[1], "--bench") == 0) { return command_bench(); }
    if (strcmp(argv[1], "--hash") == 0 && (argc == 2 || (argc == 3 && command_use(argv[2])))) { return command_hash(); }
    fputs("usage: t [--seed N] | --hash [portable|x86|arm] | --bench; the backend must be of this machine\n", stderr);
    return 2;
}

#endif /* SHA256_TEST */
#endif /* SHA256_H */
