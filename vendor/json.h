/*
 * json.h - a JSON writer and a strict RFC 8259 parser in one header, for C11.
 *
 * Include it where JSON is wanted; every function is static. The writer owns and grows its memory, the parser
 * allocates nothing. Neither looks at the locale.
 *
 *   Test:    gcc -std=c11 -O2 -x c -DJSON_TEST vendor/json.h -o t && ./t [--seed N]
 *   Compare: ./t --check <file      (exits with 0 if the file is valid, with 1 if it is not)
 *   Fuzz:    clang -std=c11 -g -O1 -fsanitize=fuzzer,address,undefined -x c -DJSON_FUZZ vendor/json.h -o f && ./f
 *
 * Map: 1 Limits and types; 2 Unicode; 3 Writer; 4 Strings of the parser; 5 Parser; 6 Reading tokens;
 *      7 Checks shared by test and fuzz; 8 Fuzz; 9 Test.
 *
 * Writing:
 *
 *     struct json_writer w;
 *     json_start(&w);
 *     json_object(&w);
 *     json_key_string(&w, "name", name);
 *     json_key(&w, "sizes");
 *     json_array(&w);
 *     json_unsigned(&w, 4096);
 *     json_array_end(&w);
 *     json_object_end(&w);
 *     if (json_done(&w))
 *         send_bytes(w.data, w.length);
 *     json_free(&w);
 *
 * Reading:
 *
 *     struct json_token tokens[64];
 *     uint64_t size = 0;
 *     if (json_parse(text, length, tokens, 64, NULL, NULL) == JSON_OK
 *         && json_get_unsigned(text, json_member(text, tokens, &tokens[0], "size"), &size))
 *         use(size);
 */
#ifndef JSON_H
#define JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ======== 1. Limits and types ======== */

/* Arrays and objects may stand in each other this deep; both the writer and the parser keep to it. */
#define JSON_DEPTH_MAX 32

/* The longest text the parser takes, in bytes. It makes every offset and every token index fit 32 bits. */
#define JSON_SIZE_MAX ((size_t)16 * 1024 * 1024)

/* The first allocation of a writer, in bytes; it doubles from there. */
#define JSON_CAPACITY_FIRST ((size_t)256)

/* What stands for bytes that are no UTF-8, and what the decoder says when it met such bytes. */
#define JSON_REPLACEMENT 0xFFFDu
#define JSON_INVALID UINT32_MAX

/* A file that includes this header rarely calls all of it, which must not cost a warning. */
#define JSON_FUNCTION static __attribute__((unused))

_Static_assert(JSON_DEPTH_MAX <= 32, "a writer keeps one bit for each level in 32-bit masks");
_Static_assert(JSON_SIZE_MAX < UINT32_MAX / 2, "offsets and token indexes are 32 bits wide");

/*
 * A writer. Always: data has room for length bytes and a NUL behind them, or is NULL; bit d of the masks speaks of
 * the container at depth d + 1. Once failed is set nothing changes but by json_free or json_start.
 */
struct json_writer {
    char *data;            /* The text so far, NUL-terminated; NULL before the first byte. Owned by the writer. */
    size_t length;         /* Bytes of text, without the NUL. */
    size_t capacity;       /* Bytes allocated. */
    bool failed;           /* No memory was left, or the calls did not make up a JSON text. */
    bool json_pretty;      /* Set it after json_start: two-space indentation, and a newline at the end. */
    bool after_key;        /* A key was written and its value has not come yet. */
    bool complete;         /* The outermost value has ended. */
    uint32_t depth;        /* Containers that are open. */
    uint32_t object_mask;  /* Bit set: an object; clear: an array. */
    uint32_t filled_mask;  /* Bit set: the container holds a value already, so that a comma comes first. */
};

enum json_type { JSON_OBJECT, JSON_ARRAY, JSON_STRING, JSON_NUMBER, JSON_TRUE, JSON_FALSE, JSON_NULL };

/*
 * A value, or the key of a member. Tokens stand in the order of the text: a container before what it holds, a key
 * right before its value. So the first child of tokens[i] is tokens[i + 1], the one after child c is
 * tokens[c].next, and the last one is reached when that equals tokens[i].next.
 */
struct json_token {
    enum json_type type;
    uint32_t start;     /* Offset of the first raw byte; of a string, the one behind its opening quote. */
    uint32_t length;    /* Raw bytes, with the brackets of a container, without the quotes of a string. */
    uint32_t children;  /* Tokens right inside: elements, or keys and values, so 2 for each member of an object. */
    uint32_t next;      /* Index of the token after this one and all it contains; of a key, that of its value. */
};

enum json_error {
    JSON_OK,
    JSON_SYNTAX,
    JSON_TOO_DEEP,
    JSON_TOO_LONG,
    JSON_TOO_MANY_TOKENS,
    JSON_BAD_STRING,
    JSON_BAD_NUMBER,
    JSON_DUPLICATE_KEY,
    JSON_TRAILING
};

JSON_FUNCTION const char *json_error_text(enum json_error error)
{
    switch (error) {
    case JSON_OK: return "no error";
    case JSON_SYNTAX: return "syntax error";
    case JSON_TOO_DEEP: return "arrays and objects are nested too deep";
    case JSON_TOO_LONG: return "text is too long";
    case JSON_TOO_MANY_TOKENS: return "too many values";
    case JSON_BAD_STRING: return "string is not terminated, not UTF-8, or holds a bad character or escape";
    case JSON_BAD_NUMBER: return "malformed number";
    case JSON_DUPLICATE_KEY: return "object holds the same key twice";
    case JSON_TRAILING: return "more text after the value";
    }
    return "unknown error";
}

#ifdef JSON_TEST
/* The tests let the allocation fail that comes after this many good ones; negative: never. */
static long json_test_allocations_left = -1;

static void *json_test_realloc(void *memory, size_t size)
{
    if (json_test_allocations_left == 0)
        return NULL;
    if (json_test_allocations_left > 0)
        json_test_allocations_left--;
    return realloc(memory, size);
}
#define JSON_REALLOC json_test_realloc
#endif

#ifndef JSON_REALLOC
#define JSON_REALLOC realloc
#endif

/* ======== 2. Unicode ======== */

/*
 * How many bytes a sequence with this first byte has, and which second bytes it allows. The range of the second
 * byte alone keeps out overlong forms, surrogates and what lies above U+10FFFF. Zero: no sequence starts so.
 */
JSON_FUNCTION size_t json_utf8_lead(unsigned char lead, unsigned char *lowest, unsigned char *highest)
{
    *lowest = 0x80;
    *highest = 0xBF;
    if (lead < 0x80)
        return 1;
    if (lead < 0xC2 || lead > 0xF4)
        return 0;
    if (lead < 0xE0)
        return 2;
    if (lead == 0xE0)
        *lowest = 0xA0;
    if (lead == 0xED)
        *highest = 0x9F;
    if (lead == 0xF0)
        *lowest = 0x90;
    if (lead == 0xF4)
        *highest = 0x8F;
    return lead < 0xF0 ? 3 : 4;
}

/*
 * Decodes one code point from at least one byte and returns the number of bytes it took. Of bytes that are no UTF-8
 * it takes the maximal subpart of a sequence, which is one byte or more, and gives JSON_INVALID.
 */
JSON_FUNCTION size_t json_utf8_decode(const unsigned char *bytes, size_t available, uint32_t *code_point)
{
    unsigned char lowest, highest;
    size_t size = json_utf8_lead(bytes[0], &lowest, &highest);
    if (size == 1) {
        *code_point = bytes[0];
        return 1;
    }
    *code_point = JSON_INVALID;
    if (size == 0)
        return 1;
    uint32_t value = bytes[0] & (0x7Fu >> size);
    for (size_t i = 1; i < size; i++) {
        if (i == available || bytes[i] < lowest || bytes[i] > highest)
            return i;
        value = value << 6 | (bytes[i] & 0x3Fu);
        lowest = 0x80;
        highest = 0xBF;
    }
    *code_point = value;
    return size;
}

/* Writes a code point that is no surrogate as UTF-8, and returns the number of bytes, at most 4. */
JSON_FUNCTION size_t json_utf8_encode(uint32_t code_point, unsigned char bytes[4])
{
    if (code_point < 0x80) {
        bytes[0] = (unsigned char)code_point;
        return 1;
    }
    size_t size = code_point < 0x800 ? 2 : code_point < 0x10000 ? 3 : 4;
    for (size_t i = size - 1; i > 0; i--) {
        bytes[i] = (unsigned char)(0x80u | (code_point & 0x3Fu));
        code_point >>= 6;
    }
    /* The first byte starts with as many one bits as the sequence has bytes, and a zero bit behind them. */
    bytes[0] = (unsigned char)((0xF00u >> size & 0xFFu) | code_point);
    return size;
}

JSON_FUNCTION bool json_utf8_valid(const void *bytes, size_t length)
{
    const unsigned char *text = bytes;
    for (size_t at = 0; at < length;) {
        uint32_t code_point;
        at += json_utf8_decode(text + at, length - at, &code_point);
        if (code_point == JSON_INVALID)
            return false;
    }
    return true;
}

/* ======== 3. Writer ======== */

/* Makes an empty writer of whatever the struct held; it frees nothing, so a used writer goes through json_free. */
JSON_FUNCTION void json_start(struct json_writer *w)
{
    memset(w, 0, sizeof *w);
}

/* Frees the memory and leaves an empty writer, so that freeing twice is harmless. */
JSON_FUNCTION void json_free(struct json_writer *w)
{
    free(w->data);
    json_start(w);
}

/* True if nothing failed and exactly one complete value was written. */
JSON_FUNCTION bool json_done(const struct json_writer *w)
{
    return !w->failed && w->complete;
}

/* Makes room for some more bytes and the NUL. Lengths are compared by subtraction, so that no sum overflows. */
JSON_FUNCTION bool json_reserve(struct json_writer *w, size_t extra)
{
    if (w->capacity - w->length > extra)
        return true;
    size_t capacity = w->capacity == 0 ? JSON_CAPACITY_FIRST : w->capacity;
    while (capacity - w->length <= extra) {
        if (capacity > SIZE_MAX / 2) {
            w->failed = true;
            return false;
        }
        capacity *= 2;
    }
    char *data = JSON_REALLOC(w->data, capacity);
    if (data == NULL) {
        w->failed = true;
        return false;
    }
    w->data = data;
    w->capacity = capacity;
    return true;
}

JSON_FUNCTION void json_write(struct json_writer *w, const void *bytes, size_t length)
{
    if (w->failed || length == 0 || !json_reserve(w, length))
        return;
    memcpy(w->data + w->length, bytes, length);
    w->length += length;
    w->data[w->length] = '\0';
}

JSON_FUNCTION void json_write_text(struct json_writer *w, const char *text)
{
    json_write(w, text, strlen(text));
}

/* The bit of the innermost open container. Only for a depth of 1 or more. */
JSON_FUNCTION uint32_t json_level(const struct json_writer *w)
{
    return (uint32_t)1 << (w->depth - 1);
}

JSON_FUNCTION bool json_in_object(const struct json_writer *w)
{
    return w->depth > 0 && (w->object_mask & json_level(w)) != 0;
}

JSON_FUNCTION void json_new_line(struct json_writer *w)
{
    if (!w->json_pretty)
        return;
    json_write(w, "\n", 1);
    for (uint32_t i = 0; i < w->depth; i++)
        json_write(w, "  ", 2);
}

/* Puts what stands between two items of the innermost container. */
JSON_FUNCTION void json_separate(struct json_writer *w)
{
    if ((w->filled_mask & json_level(w)) != 0)
        json_write(w, ",", 1);
    w->filled_mask |= json_level(w);
    json_new_line(w);
}

/* Must be true before any byte of a value is written. A value has no place after the outermost one, or without key. */
JSON_FUNCTION bool json_begin_value(struct json_writer *w)
{
    if (w->complete || (json_in_object(w) && !w->after_key))
        w->failed = true;
    if (w->failed)
        return false;
    if (w->depth > 0 && !w->after_key)
        json_separate(w);
    w->after_key = false;
    return !w->failed;
}

JSON_FUNCTION void json_finish_value(struct json_writer *w)
{
    if (w->depth > 0)
        return;
    if (w->json_pretty)
        json_write(w, "\n", 1);
    w->complete = !w->failed;
}

JSON_FUNCTION void json_open(struct json_writer *w, bool is_object)
{
    if (w->depth == JSON_DEPTH_MAX)
        w->failed = true;
    if (w->failed || !json_begin_value(w))
        return;
    json_write(w, is_object ? "{" : "[", 1);
    w->depth++;
    w->filled_mask &= ~json_level(w);
    w->object_mask &= ~json_level(w);
    if (is_object)
        w->object_mask |= json_level(w);
}

JSON_FUNCTION void json_close(struct json_writer *w, bool is_object)
{
    if (w->depth == 0 || w->after_key || json_in_object(w) != is_object)
        w->failed = true;
    if (w->failed)
        return;
    bool filled = (w->filled_mask & json_level(w)) != 0;
    w->depth--;
    if (filled)
        json_new_line(w);
    json_write(w, is_object ? "}" : "]", 1);
    json_finish_value(w);
}

JSON_FUNCTION void json_object(struct json_writer *w)
{
    json_open(w, true);
}

JSON_FUNCTION void json_object_end(struct json_writer *w)
{
    json_close(w, true);
}

JSON_FUNCTION void json_array(struct json_writer *w)
{
    json_open(w, false);
}

JSON_FUNCTION void json_array_end(struct json_writer *w)
{
    json_close(w, false);
}

/*
 * Which code points never stand in our output as they are. Control characters, even those JSON allows, could steer a
 * terminal; U+2028 and U+2029 end a line in JavaScript, and '<' could end a script element.
 */
JSON_FUNCTION bool json_must_escape(uint32_t code_point)
{
    return code_point < 0x20 || (code_point >= 0x7F && code_point < 0xA0) || code_point == '"' || code_point == '\\'
        || code_point == '<' || code_point == 0x2028 || code_point == 0x2029;
}

JSON_FUNCTION void json_write_escape(struct json_writer *w, uint32_t code_point)
{
    static const char shorts[] = "\"\"\\\\\bb\ff\nn\rr\tt";
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i + 1 < sizeof shorts; i += 2) {
        if ((unsigned char)shorts[i] == code_point) {
            json_write(w, (char[]){ '\\', shorts[i + 1] }, 2);
            return;
        }
    }
    char escape[6] = { '\\', 'u' };
    for (int i = 5; i >= 2; i--) {
        escape[i] = digits[code_point & 0xFu];
        code_point >>= 4;
    }
    json_write(w, escape, sizeof escape);
}

/* Writes a quoted string. What needs no change is copied in runs; bad UTF-8 becomes U+FFFD for each maximal subpart. */
JSON_FUNCTION void json_write_quoted(struct json_writer *w, const void *bytes, size_t length)
{
    const unsigned char *text = bytes;
    size_t copied = 0;
    json_write(w, "\"", 1);
    for (size_t at = 0; at < length && !w->failed;) {
        uint32_t code_point;
        size_t size = json_utf8_decode(text + at, length - at, &code_point);
        bool invalid = code_point == JSON_INVALID;
        if (invalid || json_must_escape(code_point)) {
            json_write(w, text + copied, at - copied);
            if (invalid)
                json_write(w, "\xEF\xBF\xBD", 3);
            else
                json_write_escape(w, code_point);
            copied = at + size;
        }
        at += size;
    }
    if (copied < length)
        json_write(w, text + copied, length - copied);
    json_write(w, "\"", 1);
}

/* Writes a string of any bytes; they may be NULL if there are none. */
JSON_FUNCTION void json_string_bytes(struct json_writer *w, const void *bytes, size_t length)
{
    if (bytes == NULL && length > 0)
        w->failed = true;
    if (w->failed || !json_begin_value(w))
        return;
    json_write_quoted(w, bytes, length);
    json_finish_value(w);
}

/* Writes a NUL-terminated string; NULL is misuse, for the caller may mean null or an empty string by it. */
JSON_FUNCTION void json_string(struct json_writer *w, const char *text)
{
    if (text == NULL)
        w->failed = true;
    else
        json_string_bytes(w, text, strlen(text));
}

JSON_FUNCTION void json_key_bytes(struct json_writer *w, const void *bytes, size_t length)
{
    if (!json_in_object(w) || w->after_key)
        w->failed = true;
    if (w->failed)
        return;
    json_separate(w);
    json_write_quoted(w, bytes, length);
    json_write_text(w, w->json_pretty ? ": " : ":");
    w->after_key = true;
}

/* Writes the key of the next member. That no key comes twice is up to the caller; the parser would reject it. */
JSON_FUNCTION void json_key(struct json_writer *w, const char *key)
{
    if (key == NULL)
        w->failed = true;
    else
        json_key_bytes(w, key, strlen(key));
}

/* Writes a value that is ready as text. */
JSON_FUNCTION void json_plain(struct json_writer *w, const void *bytes, size_t length)
{
    if (!json_begin_value(w))
        return;
    json_write(w, bytes, length);
    json_finish_value(w);
}

/* Writes a sign, the number, and behind a point as many of its last digits as the caller wants. */
JSON_FUNCTION void json_decimal(struct json_writer *w, bool negative, uint64_t n, unsigned decimals)
{
    char digits[32]; /* Room for a sign, the 20 digits of 2^64 - 1, and a point. */
    size_t at = sizeof digits;
    for (unsigned count = 0; n > 0 || count <= decimals; count++) {
        if (count == decimals && decimals > 0)
            digits[--at] = '.';
        digits[--at] = (char)('0' + n % 10);
        n /= 10;
    }
    if (negative)
        digits[--at] = '-';
    json_plain(w, digits + at, sizeof digits - at);
}

JSON_FUNCTION void json_unsigned(struct json_writer *w, uint64_t n)
{
    json_decimal(w, false, n, 0);
}

JSON_FUNCTION void json_signed(struct json_writer *w, int64_t n)
{
    /* Negated as an unsigned number, for the smallest int64_t has no positive counterpart. */
    json_decimal(w, n < 0, n < 0 ? 0 - (uint64_t)n : (uint64_t)n, 0);
}

/* Writes thousandths with three decimals: 1234 becomes 1.234, and 5 becomes 0.005. */
JSON_FUNCTION void json_fixed(struct json_writer *w, uint64_t thousandths)
{
    json_decimal(w, false, thousandths, 3);
}

JSON_FUNCTION void json_bool(struct json_writer *w, bool b)
{
    json_plain(w, b ? "true" : "false", b ? 4 : 5);
}

JSON_FUNCTION void json_null(struct json_writer *w)
{
    json_plain(w, "null", 4);
}

JSON_FUNCTION void json_key_string(struct json_writer *w, const char *key, const char *text)
{
    json_key(w, key);
    json_string(w, text);
}

JSON_FUNCTION void json_key_unsigned(struct json_writer *w, const char *key, uint64_t n)
{
    json_key(w, key);
    json_unsigned(w, n);
}

JSON_FUNCTION void json_key_bool(struct json_writer *w, const char *key, bool b)
{
    json_key(w, key);
    json_bool(w, b);
}

/* ======== 4. Strings of the parser ======== */

/* Reads four hexadecimal digits. */
JSON_FUNCTION bool json_read_hex(const unsigned char *bytes, uint32_t *value)
{
    *value = 0;
    for (int i = 0; i < 4; i++) {
        unsigned char byte = bytes[i];
        unsigned digit;
        if (byte >= '0' && byte <= '9')
            digit = (unsigned)byte - '0';
        else if (byte >= 'a' && byte <= 'f')
            digit = (unsigned)byte - 'a' + 10;
        else if (byte >= 'A' && byte <= 'F')
            digit = (unsigned)byte - 'A' + 10;
        else
            return false;
        *value = *value << 4 | digit;
    }
    return true;
}

/* Decodes \uXXXX, or two of them that make up a surrogate pair. Returns the bytes taken, 0 if they are bad. */
JSON_FUNCTION size_t json_decode_hex_escape(const unsigned char *bytes, size_t available, uint32_t *code_point)
{
    uint32_t low;
    if (available < 6 || !json_read_hex(bytes + 2, code_point))
        return 0;
    if (*code_point < 0xD800 || *code_point > 0xDFFF)
        return 6;
    if (*code_point > 0xDBFF || available < 12 || bytes[6] != '\\' || bytes[7] != 'u')
        return 0;
    if (!json_read_hex(bytes + 8, &low) || low < 0xDC00 || low > 0xDFFF)
        return 0;
    *code_point = 0x10000 + ((*code_point - 0xD800) << 10) + (low - 0xDC00);
    return 12;
}

/* Decodes what starts with a backslash. Returns the bytes taken, 0 if they are bad. */
JSON_FUNCTION size_t json_decode_escape(const unsigned char *bytes, size_t available, uint32_t *code_point)
{
    if (available < 2)
        return 0;
    switch (bytes[1]) {
    case '"':
    case '\\':
    case '/': *code_point = bytes[1]; return 2;
    case 'b': *code_point = '\b'; return 2;
    case 'f': *code_point = '\f'; return 2;
    case 'n': *code_point = '\n'; return 2;
    case 'r': *code_point = '\r'; return 2;
    case 't': *code_point = '\t'; return 2;
    case 'u': return json_decode_hex_escape(bytes, available, code_point);
    default: return 0;
    }
}

/*
 * Decodes one character of a string, escaped or not, from at least one byte. Returns the bytes taken, 0 if they are
 * bad. The parser checks strings by it and the readers decode by it, so the two cannot disagree.
 */
JSON_FUNCTION size_t json_decode_character(const unsigned char *bytes, size_t available, uint32_t *code_point)
{
    if (bytes[0] == '\\')
        return json_decode_escape(bytes, available, code_point);
    if (bytes[0] < 0x20)
        return 0;
    size_t size = json_utf8_decode(bytes, available, code_point);
    return *code_point == JSON_INVALID ? 0 : size;
}

/* Takes the next character off a string of good bytes; at its end, or at a bad byte, gives JSON_INVALID. */
JSON_FUNCTION uint32_t json_next_character(const unsigned char *bytes, size_t length, size_t *at)
{
    uint32_t code_point;
    size_t size = *at < length ? json_decode_character(bytes + *at, length - *at, &code_point) : 0;
    if (size == 0)
        return JSON_INVALID;
    *at += size;
    return code_point;
}

/* Orders two strings of one text by their decoded code points: negative, zero or positive. */
JSON_FUNCTION int json_compare_strings(const unsigned char *text, const struct json_token *a,
                                       const struct json_token *b)
{
    size_t a_at = 0, b_at = 0;
    for (;;) {
        uint32_t left = json_next_character(text + a->start, a->length, &a_at);
        uint32_t right = json_next_character(text + b->start, b->length, &b_at);
        /* The end counts as the greatest code point, which is as good an order as any other. */
        if (left != right)
            return left < right ? -1 : 1;
        if (left == JSON_INVALID)
            return 0;
    }
}

/* ======== 5. Parser ======== */

/* A parser at work. Always: at <= length, used <= token_count, and open[0..depth-1] are tokens of containers. */
struct json_parser {
    const unsigned char *text;
    size_t length;                 /* Bytes of text. */
    size_t at;                     /* Offset of the next byte; after an error, that of the error. */
    struct json_token *tokens;     /* The caller's. */
    uint32_t token_count;          /* Room in tokens. */
    uint32_t used;                 /* Tokens made so far. */
    uint32_t depth;                /* Containers that are open. */
    uint32_t open[JSON_DEPTH_MAX]; /* Their tokens, the outermost first. */
};

/* The next byte, or -1 at the end. */
JSON_FUNCTION int json_peek(const struct json_parser *p)
{
    return p->at < p->length ? p->text[p->at] : -1;
}

JSON_FUNCTION void json_skip_space(struct json_parser *p)
{
    for (int byte = json_peek(p); byte == ' ' || byte == '\n' || byte == '\r' || byte == '\t'; byte = json_peek(p))
        p->at++;
}

/* Makes the token of what stands between two offsets, as one more child of the innermost container. */
JSON_FUNCTION enum json_error json_add_token(struct json_parser *p, enum json_type type, size_t start, size_t end)
{
    if (p->used == p->token_count) {
        p->at = start;
        return JSON_TOO_MANY_TOKENS;
    }
    if (p->depth > 0)
        p->tokens[p->open[p->depth - 1]].children++;
    struct json_token *token = &p->tokens[p->used++];
    token->type = type;
    token->start = (uint32_t)start;
    token->length = (uint32_t)(end - start);
    token->children = 0;
    token->next = p->used;
    return JSON_OK;
}

JSON_FUNCTION enum json_error json_read_string(struct json_parser *p)
{
    size_t start = ++p->at;
    while (json_peek(p) != '"') {
        uint32_t code_point;
        size_t available = p->length - p->at;
        size_t size = available == 0 ? 0 : json_decode_character(p->text + p->at, available, &code_point);
        if (size == 0)
            return JSON_BAD_STRING;
        p->at += size;
    }
    return json_add_token(p, JSON_STRING, start, p->at++);
}

/* Skips digits, and says whether there were any. */
JSON_FUNCTION bool json_skip_digits(struct json_parser *p)
{
    size_t start = p->at;
    while (json_peek(p) >= '0' && json_peek(p) <= '9')
        p->at++;
    return p->at > start;
}

JSON_FUNCTION enum json_error json_read_number(struct json_parser *p)
{
    size_t start = p->at;
    if (json_peek(p) == '-')
        p->at++;
    bool zero = json_peek(p) == '0';
    size_t digits = p->at;
    if (!json_skip_digits(p))
        return JSON_BAD_NUMBER;
    if (zero && p->at > digits + 1) {
        p->at = digits;
        return JSON_BAD_NUMBER;
    }
    if (json_peek(p) == '.') {
        p->at++;
        if (!json_skip_digits(p))
            return JSON_BAD_NUMBER;
    }
    if (json_peek(p) == 'e' || json_peek(p) == 'E') {
        p->at++;
        if (json_peek(p) == '+' || json_peek(p) == '-')
            p->at++;
        if (!json_skip_digits(p))
            return JSON_BAD_NUMBER;
    }
    return json_add_token(p, JSON_NUMBER, start, p->at);
}

JSON_FUNCTION enum json_error json_read_word(struct json_parser *p, enum json_type type, const char *word)
{
    size_t length = strlen(word);
    if (p->length - p->at < length || memcmp(p->text + p->at, word, length) != 0)
        return JSON_SYNTAX;
    p->at += length;
    return json_add_token(p, type, p->at - length, p->at);
}

JSON_FUNCTION enum json_error json_open_container(struct json_parser *p, enum json_type type)
{
    if (p->depth == JSON_DEPTH_MAX)
        return JSON_TOO_DEEP;
    uint32_t index = p->used;
    enum json_error error = json_add_token(p, type, p->at, p->at);
    if (error != JSON_OK)
        return error;
    p->open[p->depth++] = index;
    p->at++;
    return JSON_OK;
}

/*
 * Merges two chains of keys, each in order, into one. The chains are linked by children, which a key has none of, and
 * 0 ends them, for token 0 is never a key. If the chains share a key, duplicate becomes the later of the two.
 */
JSON_FUNCTION uint32_t json_merge_keys(struct json_parser *p, uint32_t a, uint32_t b, uint32_t *duplicate)
{
    uint32_t head = 0;
    uint32_t *link = &head;
    while (a != 0 && b != 0) {
        int order = json_compare_strings(p->text, &p->tokens[a], &p->tokens[b]);
        if (order == 0) {
            *duplicate = a > b ? a : b;
            return 0;
        }
        *link = order < 0 ? a : b;
        link = &p->tokens[*link].children;
        if (order < 0)
            a = *link;
        else
            b = *link;
    }
    *link = a != 0 ? a : b;
    return head;
}

/*
 * Looks for a key that an object holds twice, by a merge sort of its keys: chains[i] is empty or has 2^i of them. A
 * hostile text with very many keys so costs n log n, and the sort needs no memory but the tokens.
 */
JSON_FUNCTION enum json_error json_check_keys(struct json_parser *p, uint32_t object)
{
    uint32_t chains[32] = { 0 };
    uint32_t duplicate = 0;
    for (uint32_t key = object + 1; key < p->used && duplicate == 0; key = p->tokens[key + 1].next) {
        uint32_t chain = key;
        size_t i = 0;
        for (; chains[i] != 0 && duplicate == 0; i++) {
            chain = json_merge_keys(p, chains[i], chain, &duplicate);
            chains[i] = 0;
        }
        chains[i] = chain;
    }
    uint32_t all = 0;
    for (size_t i = 0; i < 32 && duplicate == 0; i++)
        all = json_merge_keys(p, chains[i], all, &duplicate);
    if (duplicate != 0) {
        p->at = p->tokens[duplicate].start;
        return JSON_DUPLICATE_KEY;
    }
    for (uint32_t key = object + 1; key < p->used; key = p->tokens[key + 1].next)
        p->tokens[key].children = 0;
    return JSON_OK;
}

JSON_FUNCTION enum json_error json_close_container(struct json_parser *p)
{
    uint32_t index = p->open[--p->depth];
    struct json_token *token = &p->tokens[index];
    p->at++;
    token->length = (uint32_t)p->at - token->start;
    token->next = p->used;
    return token->type == JSON_OBJECT ? json_check_keys(p, index) : JSON_OK;
}

/* Reads a scalar, or the opening bracket of a container. */
JSON_FUNCTION enum json_error json_read_value(struct json_parser *p)
{
    json_skip_space(p);
    int byte = json_peek(p);
    switch (byte) {
    case '{': return json_open_container(p, JSON_OBJECT);
    case '[': return json_open_container(p, JSON_ARRAY);
    case '"': return json_read_string(p);
    case 't': return json_read_word(p, JSON_TRUE, "true");
    case 'f': return json_read_word(p, JSON_FALSE, "false");
    case 'n': return json_read_word(p, JSON_NULL, "null");
    default: return byte == '-' || (byte >= '0' && byte <= '9') ? json_read_number(p) : JSON_SYNTAX;
    }
}

JSON_FUNCTION enum json_error json_read_key(struct json_parser *p)
{
    json_skip_space(p);
    if (json_peek(p) != '"')
        return JSON_SYNTAX;
    enum json_error error = json_read_string(p);
    if (error != JSON_OK)
        return error;
    json_skip_space(p);
    if (json_peek(p) != ':')
        return JSON_SYNTAX;
    p->at++;
    return JSON_OK;
}

/*
 * Goes from the end of a value, or from an opening bracket if opened is set, to where the next value starts, and
 * closes the containers that end on the way. When the outermost value has ended, depth is 0.
 */
JSON_FUNCTION enum json_error json_advance(struct json_parser *p, bool opened)
{
    for (; p->depth > 0; opened = false) {
        bool is_object = p->tokens[p->open[p->depth - 1]].type == JSON_OBJECT;
        json_skip_space(p);
        int byte = json_peek(p);
        if (byte != (is_object ? '}' : ']')) {
            if (!opened && byte != ',')
                return JSON_SYNTAX;
            if (!opened)
                p->at++;
            return is_object ? json_read_key(p) : JSON_OK;
        }
        enum json_error error = json_close_container(p);
        if (error != JSON_OK)
            return error;
    }
    return JSON_OK;
}

JSON_FUNCTION enum json_error json_read_document(struct json_parser *p)
{
    do {
        uint32_t depth = p->depth;
        enum json_error error = json_read_value(p);
        if (error == JSON_OK)
            error = json_advance(p, p->depth > depth);
        if (error != JSON_OK)
            return error;
    } while (p->depth > 0);
    json_skip_space(p);
    return p->at < p->length ? JSON_TRAILING : JSON_OK;
}

/*
 * Parses one JSON text into the caller's tokens; the first one is the outermost value. It rejects what RFC 8259 does,
 * and also invalid UTF-8, escaped lone surrogates, a byte order mark, and an object with the same key twice. After an
 * error used is 0, error_offset is where it stands, and the tokens mean nothing. Both pointers may be NULL.
 */
JSON_FUNCTION enum json_error json_parse(const char *text, size_t length, struct json_token *tokens,
                                         uint32_t token_count, uint32_t *used, size_t *error_offset)
{
    struct json_parser p = { .text = (const unsigned char *)text, .length = length, .tokens = tokens,
                             .token_count = token_count };
    enum json_error error = JSON_TOO_LONG;
    if (length > JSON_SIZE_MAX)
        p.at = JSON_SIZE_MAX;
    else
        error = json_read_document(&p);
    if (used != NULL)
        *used = error == JSON_OK ? p.used : 0;
    if (error_offset != NULL)
        *error_offset = p.at;
    return error;
}

/* ======== 6. Reading tokens ======== */

/*
 * These read tokens that json_parse made of the same text. A token of NULL is a value that is not there, so the result
 * of json_member can be passed on without a look at it.
 */

/* Tells whether a string, decoded, equals a NUL-terminated one. */
JSON_FUNCTION bool json_equals(const char *text, const struct json_token *token, const char *wanted)
{
    if (token == NULL || token->type != JSON_STRING)
        return false;
    const unsigned char *bytes = (const unsigned char *)text + token->start;
    for (size_t at = 0; at < token->length;) {
        unsigned char encoded[4];
        uint32_t code_point = json_next_character(bytes, token->length, &at);
        if (code_point == 0 || code_point == JSON_INVALID)
            return false;
        size_t size = json_utf8_encode(code_point, encoded);
        if (strncmp(wanted, (const char *)encoded, size) != 0)
            return false;
        wanted += size;
    }
    return *wanted == '\0';
}

/* The value of the member with this key, which is compared decoded; NULL if there is none, or if it is no object. */
JSON_FUNCTION const struct json_token *json_member(const char *text, const struct json_token *tokens,
                                                   const struct json_token *object, const char *key)
{
    if (object == NULL || object->type != JSON_OBJECT)
        return NULL;
    const struct json_token *candidate = object + 1;
    for (uint32_t i = 0; i < object->children; i += 2) {
        if (json_equals(text, candidate, key))
            return candidate + 1;
        candidate = tokens + candidate[1].next;
    }
    return NULL;
}

/* Reads digits only: no sign, no fraction, no exponent, and nothing above UINT64_MAX. Else out stays as it was. */
JSON_FUNCTION bool json_get_unsigned(const char *text, const struct json_token *t, uint64_t *out)
{
    if (t == NULL || t->type != JSON_NUMBER)
        return false;
    uint64_t value = 0;
    for (size_t i = 0; i < t->length; i++) {
        char byte = text[t->start + i];
        if (byte < '0' || byte > '9')
            return false;
        uint64_t digit = (uint64_t)(byte - '0');
        if (value > (UINT64_MAX - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    *out = value;
    return true;
}

/*
 * Decodes a string to UTF-8 with a NUL behind it. False if it is no string, does not fit with the NUL, or holds
 * \u0000, at which C would end it; out is then the empty string. The length goes without the NUL and may be NULL.
 */
JSON_FUNCTION bool json_get_string(const char *text, const struct json_token *t, char *out, size_t capacity,
                                   size_t *length)
{
    if (length != NULL)
        *length = 0;
    if (capacity == 0)
        return false;
    out[0] = '\0';
    if (t == NULL || t->type != JSON_STRING)
        return false;
    size_t filled = 0;
    for (size_t at = 0; at < t->length;) {
        unsigned char encoded[4];
        uint32_t code_point = json_next_character((const unsigned char *)text + t->start, t->length, &at);
        size_t size = code_point == 0 || code_point == JSON_INVALID ? 0 : json_utf8_encode(code_point, encoded);
        if (size == 0 || capacity - filled <= size) {
            out[0] = '\0';
            return false;
        }
        memcpy(out + filled, encoded, size);
        filled += size;
    }
    out[filled] = '\0';
    if (length != NULL)
        *length = filled;
    return true;
}

/* ======== 7. Checks shared by test and fuzz ======== */

#if defined(JSON_TEST) || defined(JSON_FUZZ)

/* Memory that is exactly as large as its content, so that AddressSanitizer sees a read behind the end. */
static char *json_test_copy(const void *bytes, size_t length)
{
    char *copy = malloc(length == 0 ? 1 : length);
    if (copy == NULL)
        abort();
    if (length > 0)
        memcpy(copy, bytes, length);
    return copy;
}

/* Decodes a string into memory of its own, NUL characters and all; escaped text is never shorter than decoded. */
static char *json_test_decode(const char *text, const struct json_token *token, size_t *length)
{
    char *out = json_test_copy(text + token->start, token->length);
    *length = 0;
    for (size_t at = 0; at < token->length;) {
        unsigned char encoded[4];
        uint32_t code_point = json_next_character((const unsigned char *)text + token->start, token->length, &at);
        if (code_point == JSON_INVALID)
            abort();
        size_t size = json_utf8_encode(code_point, encoded);
        memcpy(out + *length, encoded, size);
        *length += size;
    }
    return out;
}

static bool json_test_same_string(const char *a_text, const struct json_token *a, const char *b_text,
                                  const struct json_token *b)
{
    size_t a_length, b_length;
    char *a_bytes = json_test_decode(a_text, a, &a_length);
    char *b_bytes = json_test_decode(b_text, b, &b_length);
    bool same = a_length == b_length && memcmp(a_bytes, b_bytes, a_length) == 0;
    free(a_bytes);
    free(b_bytes);
    return same;
}

/* Tells whether the children of one container lie in it one after the other, and the keys of an object differ. */
static bool json_test_container(const char *text, const struct json_token *tokens, uint32_t index)
{
    const struct json_token *container = &tokens[index];
    bool is_object = container->type == JSON_OBJECT;
    size_t end = container->start + (size_t)1;
    uint32_t children = 0;
    uint32_t i = index + 1;
    for (; i < container->next; i = tokens[i].next) {
        bool is_key = is_object && children++ % 2 == 0;
        children += is_object ? 0 : 1;
        if (tokens[i].start < end || tokens[i].next <= i)
            return false;
        if (is_key && (tokens[i].type != JSON_STRING || tokens[i].next != i + 1))
            return false;
        /* Comparing all pairs is the plain way to say what the merge sort must find; small objects suffice. */
        for (uint32_t j = index + 1; is_key && container->children < 200 && j < i; j = tokens[j + 1].next)
            if (json_test_same_string(text, &tokens[j], text, &tokens[i]))
                return false;
        end = tokens[i].start + (size_t)tokens[i].length;
    }
    return i == container->next && children == container->children && (!is_object || children % 2 == 0)
        && end < container->start + (size_t)container->length;
}

/* Asserts what struct json_token promises of the tokens of a good text. */
static bool json_test_tokens(const char *text, size_t length, const struct json_token *tokens, uint32_t used)
{
    if (used == 0 || tokens[0].next != used)
        return false;
    for (uint32_t i = 0; i < used; i++) {
        const struct json_token *token = &tokens[i];
        if (token->start > length || token->length > length - token->start || token->next > used)
            return false;
        if (token->type == JSON_OBJECT || token->type == JSON_ARRAY) {
            if (!json_test_container(text, tokens, i))
                return false;
        } else if (token->children != 0 || token->next != i + 1) {
            return false;
        }
    }
    return true;
}

/* Writes one value and all in it through the writer. The recursion is as deep as the text, so bounded. */
static void json_test_rewrite(struct json_writer *w, const char *text, const struct json_token *tokens, uint32_t index)
{
    const struct json_token *token = &tokens[index];
    bool is_object = token->type == JSON_OBJECT;
    size_t length;
    char *bytes;
    if (token->type == JSON_STRING) {
        bytes = json_test_decode(text, token, &length);
        json_string_bytes(w, bytes, length);
        free(bytes);
        return;
    }
    if (!is_object && token->type != JSON_ARRAY) {
        json_plain(w, text + token->start, token->length);
        return;
    }
    json_open(w, is_object);
    for (uint32_t i = index + 1; i < token->next; i = tokens[i].next) {
        if (is_object) {
            bytes = json_test_decode(text, &tokens[i++], &length);
            json_key_bytes(w, bytes, length);
            free(bytes);
        }
        json_test_rewrite(w, text, tokens, i);
    }
    json_close(w, is_object);
}

/* Tells whether two texts mean the same, token by token. */
static bool json_test_same(const char *a_text, const struct json_token *a, const char *b_text,
                           const struct json_token *b, uint32_t used)
{
    for (uint32_t i = 0; i < used; i++) {
        if (a[i].type != b[i].type || a[i].children != b[i].children || a[i].next != b[i].next)
            return false;
        if (a[i].type == JSON_STRING && !json_test_same_string(a_text, &a[i], b_text, &b[i]))
            return false;
        if (a[i].type == JSON_NUMBER
            && (a[i].length != b[i].length || memcmp(a_text + a[i].start, b_text + b[i].start, a[i].length) != 0))
            return false;
    }
    return true;
}

/* Tells whether the writer, fed with a parsed text, gives a text that parses to the same. */
static bool json_test_rewritten(const char *text, const struct json_token *tokens, uint32_t used, bool pretty)
{
    struct json_writer w;
    struct json_token *again = calloc(used, sizeof *again);
    uint32_t again_used = 0;
    if (again == NULL)
        abort();
    json_start(&w);
    w.json_pretty = pretty;
    json_test_rewrite(&w, text, tokens, 0);
    bool same = json_done(&w) && json_utf8_valid(w.data, w.length) && memchr(w.data, '<', w.length) == NULL
        && json_parse(w.data, w.length, again, used, &again_used, NULL) == JSON_OK && again_used == used
        && json_test_same(text, tokens, w.data, again, used);
    json_free(&w);
    free(again);
    return same;
}

/* Calls the readers on every token. The string buffer is exact, so that writing behind it is seen. */
static bool json_test_readers(const char *text, const struct json_token *tokens, uint32_t used)
{
    for (uint32_t i = 0; i < used; i++) {
        uint64_t number = 0;
        size_t length, got;
        if (json_get_unsigned(text, &tokens[i], &number) && tokens[i].type != JSON_NUMBER)
            return false;
        if (tokens[i].type != JSON_STRING)
            continue;
        char *decoded = json_test_decode(text, &tokens[i], &length);
        char *out = malloc(length + 1);
        if (out == NULL)
            abort();
        bool has_nul = length > 0 && memchr(decoded, '\0', length) != NULL;
        bool good = json_get_string(text, &tokens[i], out, length + 1, &got) == !has_nul
            && (has_nul || (got == length && strlen(out) == length && memcmp(out, decoded, length) == 0))
            && (has_nul || json_equals(text, &tokens[i], out)) && !json_get_string(text, &tokens[i], out, length, &got);
        free(out);
        free(decoded);
        if (!good)
            return false;
    }
    return true;
}

/* Parses any bytes with room for all tokens they could have, and checks whatever must hold of the answer. */
static enum json_error json_test_parse(const void *bytes, size_t length, bool *consistent)
{
    char *text = json_test_copy(bytes, length);
    uint32_t room = (uint32_t)length + 1;
    uint32_t used = 0;
    size_t offset = SIZE_MAX;
    struct json_token *tokens = calloc(room, sizeof *tokens);
    if (tokens == NULL)
        abort();
    enum json_error error = json_parse(text, length, tokens, room, &used, &offset);
    *consistent = offset <= length && error != JSON_TOO_LONG && error != JSON_TOO_MANY_TOKENS;
    if (error != JSON_OK) {
        *consistent = *consistent && used == 0;
    } else {
        *consistent = *consistent && offset == length && json_utf8_valid(text, length)
            && json_test_tokens(text, length, tokens, used) && json_test_readers(text, tokens, used)
            && json_test_rewritten(text, tokens, used, false) && json_test_rewritten(text, tokens, used, true)
            && json_parse(text, length, tokens, used, NULL, NULL) == JSON_OK
            && json_parse(text, length, tokens, used - 1, NULL, NULL) == JSON_TOO_MANY_TOKENS;
    }
    free(tokens);
    free(text);
    return error;
}

/* Writes any bytes as a string, parses that, and tells whether it decodes to the bytes or to their replacement. */
static bool json_test_string_round(const void *bytes, size_t length)
{
    struct json_writer w;
    struct json_token token;
    size_t decoded_length = 0;
    json_start(&w);
    json_string_bytes(&w, bytes, length);
    bool good = json_done(&w) && json_parse(w.data, w.length, &token, 1, NULL, NULL) == JSON_OK;
    if (good) {
        char *decoded = json_test_decode(w.data, &token, &decoded_length);
        bool same = decoded_length == length && (length == 0 || memcmp(decoded, bytes, length) == 0);
        good = json_utf8_valid(decoded, decoded_length) && same == json_utf8_valid(bytes, length);
        free(decoded);
    }
    json_free(&w);
    return good;
}

#endif

/* ======== 8. Fuzz ======== */

#ifdef JSON_FUZZ

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bool consistent;
    json_test_parse(data, size, &consistent);
    if (!consistent || !json_test_string_round(data, size))
        abort();
    return 0;
}

#endif

/* ======== 9. Test ======== */

#ifdef JSON_TEST

static unsigned json_test_passed, json_test_failed, json_test_skipped;

static void json_test_check(bool good, const char *what, size_t number)
{
    if (good) {
        json_test_passed++;
        return;
    }
    json_test_failed++;
    printf("failed: %s (%zu)\n", what, number);
}

/* A text, which may hold NUL bytes, and what the parser must say of it. */
struct json_test_case {
    const char *text;
    size_t length;
    enum json_error error;
};

#define JSON_GOOD(text) { text, sizeof(text) - 1, JSON_OK }
#define JSON_POOR(error, text) { text, sizeof(text) - 1, error }

static const struct json_test_case json_test_accepted[] = {
    /* Outermost values of every type, and white space around them. */
    JSON_GOOD("null"), JSON_GOOD("true"), JSON_GOOD("false"), JSON_GOOD("0"), JSON_GOOD("\"\""), JSON_GOOD("[]"),
    JSON_GOOD("{}"), JSON_GOOD("\"text\""), JSON_GOOD("-1"), JSON_GOOD("42"), JSON_GOOD(" 1"), JSON_GOOD("1 "),
    JSON_GOOD("\t\n\r 1 \t\n\r"), JSON_GOOD("1\n"), JSON_GOOD("\r\ntrue\r\n"), JSON_GOOD("   []   "),
    /* Arrays. */
    JSON_GOOD("[1]"), JSON_GOOD("[1,2]"), JSON_GOOD("[ 1 , 2 ]"), JSON_GOOD("[[]]"), JSON_GOOD("[[],[]]"),
    JSON_GOOD("[[[[]]],[[]]]"), JSON_GOOD("[\n\n]"), JSON_GOOD("[null,1,\"1\",{},[],true,false]"),
    JSON_GOOD("[1,1]"), JSON_GOOD("[\"\"]"), JSON_GOOD("[ \"a\"]"), JSON_GOOD("[\"a\" ]"), JSON_GOOD("[1\n]"),
    JSON_GOOD("[null,null,null,2]"), JSON_GOOD("[\t]"), JSON_GOOD("[{},{}]"), JSON_GOOD("[\"a\",\"a\"]"),
    /* Objects. */
    JSON_GOOD("{\"a\":1}"), JSON_GOOD("{\"a\":1,\"b\":2}"), JSON_GOOD("{ \"a\" : 1 , \"b\" : 2 }"),
    JSON_GOOD("{\"\":0}"), JSON_GOOD("{\"a\":{}}"), JSON_GOOD("{\"a\":[]}"), JSON_GOOD("{\"a\":{\"a\":{\"a\":1}}}"),
    JSON_GOOD("{\"a\":\"a\",\"b\":\"a\"}"), JSON_GOOD("{\"a\":1,\"A\":2}"), JSON_GOOD("{\"a\\u0000b\":1}"),
    JSON_GOOD("{\n\"a\"\n:\n1\n}"), JSON_GOOD("{\"a\":[{\"a\":1},{\"a\":2}]}"), JSON_GOOD("{\"a\":1,\"a \":2}"),
    JSON_GOOD("{\"\\ud834\\udd1e\":1,\"\\u1d1e\":2}"), JSON_GOOD("{\"\\u0000\":1,\"\":2}"),
    JSON_GOOD("{\"\xC3\xA9\":1,\"e\xCC\x81\":2}"), JSON_GOOD("{\"true\":true,\"null\":null}"),
    JSON_GOOD("{\"b\":1,\"a\":2,\"d\":3,\"c\":4,\"e\":5}"), JSON_GOOD("{\"a\":{\"b\":1},\"b\":{\"a\":1}}"),
    /* Numbers. */
    JSON_GOOD("-0"), JSON_GOOD("0.0"), JSON_GOOD("-0.0"), JSON_GOOD("0e0"), JSON_GOOD("0E0"), JSON_GOOD("0e+1"),
    JSON_GOOD("0e-1"), JSON_GOOD("1e5"), JSON_GOOD("1E5"), JSON_GOOD("1E+5"), JSON_GOOD("1e-5"), JSON_GOOD("1.5e10"),
    JSON_GOOD("1.5E-10"), JSON_GOOD("10"), JSON_GOOD("1234567890"), JSON_GOOD("18446744073709551616"),
    JSON_GOOD("1e400"), JSON_GOOD("-1e-400"), JSON_GOOD("123.456789"), JSON_GOOD("1e00"), JSON_GOOD("1e007"),
    JSON_GOOD("0.00000000000000000000000000000000000000000000000001"), JSON_GOOD("-123456789012345678901234567890"),
    JSON_GOOD("1.10"), JSON_GOOD("100"), JSON_GOOD("[-0,0,-1]"), JSON_GOOD("[20e1]"), JSON_GOOD("{\"a\":-1.5e+3}"),
    /* Escapes. */
    JSON_GOOD("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\""), JSON_GOOD("\"\\u0041\""), JSON_GOOD("\"\\u0000\""),
    JSON_GOOD("\"\\uABCD\\uabcd\\uAbCd\""), JSON_GOOD("\"\\u0012\""), JSON_GOOD("\"\\uFFFF\""),
    JSON_GOOD("\"\\uFFFE\""), JSON_GOOD("\"\\uD7FF\\uE000\""), JSON_GOOD("\"\\ud83d\\ude00\""),
    JSON_GOOD("\"\\uD800\\uDC00\""), JSON_GOOD("\"\\uDBFF\\uDFFF\""), JSON_GOOD("\"\\\\u0041\""),
    JSON_GOOD("\"\\\\n\""), JSON_GOOD("\"\\\\\""), JSON_GOOD("\"\\u005C\\u0022\""), JSON_GOOD("\"\\u2028\\u2029\""),
    JSON_GOOD("\"\\uFEFF\""), JSON_GOOD("\"\\ud83d\\ude00\\ud83d\\ude00\""),
    /* Raw characters. */
    JSON_GOOD("\"\x7F\""), JSON_GOOD("\"\xC2\x80\""), JSON_GOOD("\"\xDF\xBF\""), JSON_GOOD("\"\xE0\xA0\x80\""),
    JSON_GOOD("\"\xED\x9F\xBF\""), JSON_GOOD("\"\xEE\x80\x80\""), JSON_GOOD("\"\xEF\xBF\xBF\""),
    JSON_GOOD("\"\xF0\x90\x80\x80\""), JSON_GOOD("\"\xF4\x8F\xBF\xBF\""), JSON_GOOD("\"\xE2\x80\xA8\xE2\x80\xA9\""),
    JSON_GOOD("\"\xEF\xBB\xBF\""), JSON_GOOD("\"/\""), JSON_GOOD("\"'\""), JSON_GOOD("\"a b\""),
    JSON_GOOD("\"/* no comment */\""), JSON_GOOD("\"<script>&\""), JSON_GOOD("\"{[,:]}\""), JSON_GOOD("[\"\xC2\xA0\"]"),
    JSON_GOOD("\"\xE6\xBC\xA2\xE5\xAD\x97\""), JSON_GOOD("\"\xF0\x9F\x98\x80\"")
};

static const struct json_test_case json_test_rejected[] = {
    /* Nothing, or no value at all. */
    JSON_POOR(JSON_SYNTAX, ""), JSON_POOR(JSON_SYNTAX, " "), JSON_POOR(JSON_SYNTAX, "\n"),
    JSON_POOR(JSON_SYNTAX, "\0"), JSON_POOR(JSON_SYNTAX, ","), JSON_POOR(JSON_SYNTAX, ":"),
    JSON_POOR(JSON_SYNTAX, "]"), JSON_POOR(JSON_SYNTAX, "}"), JSON_POOR(JSON_SYNTAX, "\\"),
    JSON_POOR(JSON_SYNTAX, "*"), JSON_POOR(JSON_SYNTAX, "<null>"), JSON_POOR(JSON_SYNTAX, "\xEF\xBB\xBF"),
    JSON_POOR(JSON_SYNTAX, "\xEF\xBB\xBF[]"), JSON_POOR(JSON_SYNTAX, "\xFE\xFF\0[\0]"),
    JSON_POOR(JSON_SYNTAX, "\xFF\xFE[\0]\0"), JSON_POOR(JSON_SYNTAX, "\0[\0]"), JSON_POOR(JSON_SYNTAX, "[\0]"),
    /* Words. */
    JSON_POOR(JSON_SYNTAX, "n"), JSON_POOR(JSON_SYNTAX, "nul"), JSON_POOR(JSON_SYNTAX, "tru"),
    JSON_POOR(JSON_SYNTAX, "fals"), JSON_POOR(JSON_SYNTAX, "Null"), JSON_POOR(JSON_SYNTAX, "TRUE"),
    JSON_POOR(JSON_SYNTAX, "fAlse"), JSON_POOR(JSON_TRAILING, "truee"), JSON_POOR(JSON_TRAILING, "nullx"),
    JSON_POOR(JSON_SYNTAX, "undefined"), JSON_POOR(JSON_SYNTAX, "None"), JSON_POOR(JSON_SYNTAX, "a"),
    JSON_POOR(JSON_SYNTAX, "[nul]"), JSON_POOR(JSON_SYNTAX, "[truefalse]"), JSON_POOR(JSON_SYNTAX, "[tru"),
    JSON_POOR(JSON_SYNTAX, "nu\0l"), JSON_POOR(JSON_SYNTAX, "\xC3\xA5"),
    /* Numbers. */
    JSON_POOR(JSON_SYNTAX, "NaN"), JSON_POOR(JSON_SYNTAX, "nan"), JSON_POOR(JSON_SYNTAX, "Infinity"),
    JSON_POOR(JSON_BAD_NUMBER, "-Infinity"), JSON_POOR(JSON_BAD_NUMBER, "-NaN"), JSON_POOR(JSON_SYNTAX, "+1"),
    JSON_POOR(JSON_SYNTAX, "+"), JSON_POOR(JSON_BAD_NUMBER, "-"), JSON_POOR(JSON_BAD_NUMBER, "--1"),
    JSON_POOR(JSON_BAD_NUMBER, "- 1"), JSON_POOR(JSON_BAD_NUMBER, "00"), JSON_POOR(JSON_BAD_NUMBER, "01"),
    JSON_POOR(JSON_BAD_NUMBER, "-01"), JSON_POOR(JSON_BAD_NUMBER, "-00"), JSON_POOR(JSON_BAD_NUMBER, "012.3"),
    JSON_POOR(JSON_SYNTAX, ".5"), JSON_POOR(JSON_BAD_NUMBER, "-.5"), JSON_POOR(JSON_BAD_NUMBER, "1."),
    JSON_POOR(JSON_BAD_NUMBER, "0."), JSON_POOR(JSON_BAD_NUMBER, "1.e1"), JSON_POOR(JSON_BAD_NUMBER, "1.."),
    JSON_POOR(JSON_BAD_NUMBER, "1e"), JSON_POOR(JSON_BAD_NUMBER, "1E"), JSON_POOR(JSON_BAD_NUMBER, "1e+"),
    JSON_POOR(JSON_BAD_NUMBER, "1e-"), JSON_POOR(JSON_BAD_NUMBER, "0e"), JSON_POOR(JSON_BAD_NUMBER, "0.3e"),
    JSON_POOR(JSON_BAD_NUMBER, "0.3e+"), JSON_POOR(JSON_BAD_NUMBER, "1ee5"), JSON_POOR(JSON_BAD_NUMBER, "1e+-5"),
    JSON_POOR(JSON_TRAILING, "1e5.0"), JSON_POOR(JSON_TRAILING, "1.2.3"), JSON_POOR(JSON_TRAILING, "0x1F"),
    JSON_POOR(JSON_TRAILING, "1_000"), JSON_POOR(JSON_TRAILING, "1 000"), JSON_POOR(JSON_TRAILING, "1f"),
    JSON_POOR(JSON_TRAILING, "1-2"), JSON_POOR(JSON_TRAILING, "1+2"), JSON_POOR(JSON_SYNTAX, "[1a]"),
    JSON_POOR(JSON_SYNTAX, "[0x1]"), JSON_POOR(JSON_SYNTAX, "[1 2]"), JSON_POOR(JSON_BAD_NUMBER, "[-]"),
    JSON_POOR(JSON_BAD_NUMBER, "[-a]"), JSON_POOR(JSON_BAD_NUMBER, "[1.]"), JSON_POOR(JSON_SYNTAX, "[1.5x]"),
    JSON_POOR(JSON_SYNTAX, "\xEF\xBC\x91"), JSON_POOR(JSON_TRAILING, "1\xC2\xA0"),
    JSON_POOR(JSON_TRAILING, "1\0"),
    /* Arrays. */
    JSON_POOR(JSON_SYNTAX, "["), JSON_POOR(JSON_SYNTAX, "[1"), JSON_POOR(JSON_SYNTAX, "[1,"),
    JSON_POOR(JSON_SYNTAX, "[,"), JSON_POOR(JSON_SYNTAX, "[,]"), JSON_POOR(JSON_SYNTAX, "[,1]"),
    JSON_POOR(JSON_SYNTAX, "[1,]"), JSON_POOR(JSON_SYNTAX, "[1,,2]"), JSON_POOR(JSON_SYNTAX, "[1,,]"),
    JSON_POOR(JSON_SYNTAX, "[1;2]"), JSON_POOR(JSON_SYNTAX, "[1:2]"), JSON_POOR(JSON_SYNTAX, "[\"a\":1]"),
    JSON_POOR(JSON_SYNTAX, "[1}"), JSON_POOR(JSON_SYNTAX, "[}"), JSON_POOR(JSON_TRAILING, "[]]"),
    JSON_POOR(JSON_TRAILING, "[1]]"), JSON_POOR(JSON_SYNTAX, "[[]"), JSON_POOR(JSON_SYNTAX, "[\"a\" \"b\"]"),
    JSON_POOR(JSON_SYNTAX, "[\"a\",\n4\n,1,"), JSON_POOR(JSON_SYNTAX, "[a"), JSON_POOR(JSON_SYNTAX, "[\v]"),
    JSON_POOR(JSON_SYNTAX, "[\f]"), JSON_POOR(JSON_SYNTAX, "[*]"), JSON_POOR(JSON_SYNTAX, "[[] []]"),
    JSON_POOR(JSON_SYNTAX, "[{}"), JSON_POOR(JSON_SYNTAX, "[1,\n1\n,1"), JSON_POOR(JSON_SYNTAX, "[\xFF]"),
    /* Objects. */
    JSON_POOR(JSON_SYNTAX, "{"), JSON_POOR(JSON_SYNTAX, "{\"a\""), JSON_POOR(JSON_SYNTAX, "{\"a\":"),
    JSON_POOR(JSON_SYNTAX, "{\"a\":1"), JSON_POOR(JSON_SYNTAX, "{\"a\":1,"), JSON_POOR(JSON_SYNTAX, "{\"a\":1,}"),
    JSON_POOR(JSON_SYNTAX, "{\"a\":1,,\"b\":2}"), JSON_POOR(JSON_SYNTAX, "{,\"a\":1}"),
    JSON_POOR(JSON_SYNTAX, "{\"a\"}"), JSON_POOR(JSON_SYNTAX, "{\"a\",1}"), JSON_POOR(JSON_SYNTAX, "{\"a\" 1}"),
    JSON_POOR(JSON_SYNTAX, "{\"a\":}"), JSON_POOR(JSON_SYNTAX, "{:1}"), JSON_POOR(JSON_SYNTAX, "{a:1}"),
    JSON_POOR(JSON_SYNTAX, "{'a':1}"), JSON_POOR(JSON_SYNTAX, "{1:1}"), JSON_POOR(JSON_SYNTAX, "{null:1}"),
    JSON_POOR(JSON_SYNTAX, "{[]:1}"), JSON_POOR(JSON_SYNTAX, "{\"a\"::1}"), JSON_POOR(JSON_SYNTAX, "{\"a\":1]"),
    JSON_POOR(JSON_SYNTAX, "{]"), JSON_POOR(JSON_TRAILING, "{}}"), JSON_POOR(JSON_TRAILING, "{\"a\":1}}"),
    JSON_POOR(JSON_SYNTAX, "{\"a\":1 \"b\":2}"), JSON_POOR(JSON_SYNTAX, "{\"a\":1;\"b\":2}"),
    JSON_POOR(JSON_SYNTAX, "{\"a\":1,2}"), JSON_POOR(JSON_SYNTAX, "{\"a\"=1}"), JSON_POOR(JSON_SYNTAX, "{\"a\":a}"),
    JSON_POOR(JSON_SYNTAX, "{\"a\":1,\"b\"}"), JSON_POOR(JSON_SYNTAX, "{\"a\":/**/1}"),
    JSON_POOR(JSON_TRAILING, "{}#"), JSON_POOR(JSON_TRAILING, "{}//"), JSON_POOR(JSON_TRAILING, "{}/**/"),
    JSON_POOR(JSON_TRAILING, "{},"), JSON_POOR(JSON_SYNTAX, "{\"a\":1\0}"),
    JSON_POOR(JSON_DUPLICATE_KEY, "{\"a\":1,\"a\":1}"), JSON_POOR(JSON_DUPLICATE_KEY, "{\"a\":1,\"b\":2,\"a\":3}"),
    JSON_POOR(JSON_DUPLICATE_KEY, "{\"\":1,\"\":2}"), JSON_POOR(JSON_DUPLICATE_KEY, "{\"a\":1,\"\\u0061\":2}"),
    JSON_POOR(JSON_DUPLICATE_KEY, "{\"/\":1,\"\\/\":2}"), JSON_POOR(JSON_DUPLICATE_KEY, "[{\"b\":{\"a\":1,\"a\":2}}]"),
    JSON_POOR(JSON_DUPLICATE_KEY, "{\"\\u00e9\":1,\"\xC3\xA9\":2}"),
    JSON_POOR(JSON_DUPLICATE_KEY, "{\"\\ud83d\\ude00\":1,\"\xF0\x9F\x98\x80\":2}"),
    JSON_POOR(JSON_DUPLICATE_KEY, "{\"a\":{\"c\":1},\"b\":[],\"c\":{},\"d\":4,\"b\":5}"),
    /* Strings. */
    JSON_POOR(JSON_BAD_STRING, "\""), JSON_POOR(JSON_BAD_STRING, "\"a"), JSON_POOR(JSON_SYNTAX, "'a'"),
    JSON_POOR(JSON_SYNTAX, "a\""), JSON_POOR(JSON_TRAILING, "\"\"x"), JSON_POOR(JSON_TRAILING, "\"a\"\"b\""),
    JSON_POOR(JSON_BAD_STRING, "\"\n\""), JSON_POOR(JSON_BAD_STRING, "\"\t\""), JSON_POOR(JSON_BAD_STRING, "\"\0\""),
    JSON_POOR(JSON_BAD_STRING, "\"\x1F\""), JSON_POOR(JSON_BAD_STRING, "\"\r\""), JSON_POOR(JSON_BAD_STRING, "\"\\"),
    JSON_POOR(JSON_BAD_STRING, "\"\\\""), JSON_POOR(JSON_BAD_STRING, "\"\\\\\\\""),
    JSON_POOR(JSON_BAD_STRING, "\"\\a\""), JSON_POOR(JSON_BAD_STRING, "\"\\x41\""),
    JSON_POOR(JSON_BAD_STRING, "\"\\0\""), JSON_POOR(JSON_BAD_STRING, "\"\\'\""),
    JSON_POOR(JSON_BAD_STRING, "\"\\v\""), JSON_POOR(JSON_BAD_STRING, "\"\\\n\""),
    JSON_POOR(JSON_BAD_STRING, "\"\\ \""), JSON_POOR(JSON_BAD_STRING, "\"\\U0041\""),
    JSON_POOR(JSON_BAD_STRING, "\"\\\0\""), JSON_POOR(JSON_BAD_STRING, "\"\\\xC3\xA9\""),
    JSON_POOR(JSON_BAD_STRING, "\"\\u\""), JSON_POOR(JSON_BAD_STRING, "\"\\u0\""),
    JSON_POOR(JSON_BAD_STRING, "\"\\u00\""), JSON_POOR(JSON_BAD_STRING, "\"\\u004\""),
    JSON_POOR(JSON_BAD_STRING, "\"\\u004g\""), JSON_POOR(JSON_BAD_STRING, "\"\\u 041\""),
    JSON_POOR(JSON_BAD_STRING, "\"\\u+041\""), JSON_POOR(JSON_BAD_STRING, "\"\\u-041\""),
    JSON_POOR(JSON_BAD_STRING, "\"\\u0x41\""), JSON_POOR(JSON_BAD_STRING, "\"\\u00"),
    JSON_POOR(JSON_BAD_STRING, "\"\\u{41}\""), JSON_POOR(JSON_BAD_STRING, "\"\\n\\u\""),
    /* Surrogates that are not a pair. */
    JSON_POOR(JSON_BAD_STRING, "\"\\ud800\""), JSON_POOR(JSON_BAD_STRING, "\"\\udbff\""),
    JSON_POOR(JSON_BAD_STRING, "\"\\udc00\""), JSON_POOR(JSON_BAD_STRING, "\"\\udfff\""),
    JSON_POOR(JSON_BAD_STRING, "\"\\ud800a\""), JSON_POOR(JSON_BAD_STRING, "\"\\ud800\\n\""),
    JSON_POOR(JSON_BAD_STRING, "\"\\ud800\\u0041\""), JSON_POOR(JSON_BAD_STRING, "\"\\ud800\\ud800\""),
    JSON_POOR(JSON_BAD_STRING, "\"\\ud800\\ud800\\udc00\""), JSON_POOR(JSON_BAD_STRING, "\"\\udc00\\ud800\""),
    JSON_POOR(JSON_BAD_STRING, "\"\\ud800\\\""), JSON_POOR(JSON_BAD_STRING, "\"\\ud800\\u\""),
    JSON_POOR(JSON_BAD_STRING, "\"\\ud800\\udc0\""), JSON_POOR(JSON_BAD_STRING, "\"\\ud800\\udc0g\""),
    JSON_POOR(JSON_BAD_STRING, "\"\\ud800\\ue000\""), JSON_POOR(JSON_BAD_STRING, "\"\\ud83d\\ude00\\ude00\""),
    JSON_POOR(JSON_BAD_STRING, "\"\\ud83d \\ude00\""), JSON_POOR(JSON_BAD_STRING, "\"\\ud800\\udc00\\ud800"),
    /* Bytes that are no UTF-8. */
    JSON_POOR(JSON_BAD_STRING, "\"\x80\""), JSON_POOR(JSON_BAD_STRING, "\"\xBF\""),
    JSON_POOR(JSON_BAD_STRING, "\"\xC0\x80\""), JSON_POOR(JSON_BAD_STRING, "\"\xC1\xBF\""),
    JSON_POOR(JSON_BAD_STRING, "\"\xC2\""), JSON_POOR(JSON_BAD_STRING, "\"\xC2"),
    JSON_POOR(JSON_BAD_STRING, "\"\xE0\x80\x80\""), JSON_POOR(JSON_BAD_STRING, "\"\xE0\x9F\xBF\""),
    JSON_POOR(JSON_BAD_STRING, "\"\xED\xA0\x80\""), JSON_POOR(JSON_BAD_STRING, "\"\xED\xBF\xBF\""),
    JSON_POOR(JSON_BAD_STRING, "\"\xED\xA0\x80\xED\xB0\x80\""), JSON_POOR(JSON_BAD_STRING, "\"\xE2\x82\""),
    JSON_POOR(JSON_BAD_STRING, "\"\xF0\x80\x80\x80\""), JSON_POOR(JSON_BAD_STRING, "\"\xF0\x8F\xBF\xBF\""),
    JSON_POOR(JSON_BAD_STRING, "\"\xF4\x90\x80\x80\""), JSON_POOR(JSON_BAD_STRING, "\"\xF5\x80\x80\x80\""),
    JSON_POOR(JSON_BAD_STRING, "\"\xF8\x88\x80\x80\x80\""), JSON_POOR(JSON_BAD_STRING, "\"\xFE\""),
    JSON_POOR(JSON_BAD_STRING, "\"\xFF\""), JSON_POOR(JSON_BAD_STRING, "\"\xF0\x9F\x98\""),
    JSON_POOR(JSON_BAD_STRING, "\"\xE9\""), JSON_POOR(JSON_BAD_STRING, "{\"\xFF\":1}"),
    /* Text behind the value. */
    JSON_POOR(JSON_TRAILING, "1 2"), JSON_POOR(JSON_TRAILING, "null null"), JSON_POOR(JSON_TRAILING, "[][]"),
    JSON_POOR(JSON_TRAILING, "[],"), JSON_POOR(JSON_TRAILING, "1,"), JSON_POOR(JSON_TRAILING, "[]\0"),
    JSON_POOR(JSON_TRAILING, "[] // no"), JSON_POOR(JSON_TRAILING, "[]\xEF\xBB\xBF"),
    JSON_POOR(JSON_TRAILING, "1\v"), JSON_POOR(JSON_TRAILING, "1\f"), JSON_POOR(JSON_TRAILING, "[]\xE2\x80\xA8"),
    JSON_POOR(JSON_SYNTAX, "// no\n1"), JSON_POOR(JSON_SYNTAX, "/**/1"), JSON_POOR(JSON_SYNTAX, "#1")
};

#define JSON_COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Parses a text cut short at every byte. A good array or object is then good no more, for it ends in its bracket. */
static bool json_test_prefixes(const struct json_test_case *c)
{
    bool must_fail = c->error == JSON_OK && (c->text[0] == '[' || c->text[0] == '{');
    for (size_t length = 0; length < c->length; length++) {
        bool consistent;
        enum json_error error = json_test_parse(c->text, length, &consistent);
        if (!consistent || (must_fail && error == JSON_OK))
            return false;
    }
    return true;
}

static void json_test_cases(void)
{
    bool consistent;
    for (size_t i = 0; i < JSON_COUNT(json_test_accepted); i++) {
        const struct json_test_case *c = &json_test_accepted[i];
        enum json_error error = json_test_parse(c->text, c->length, &consistent);
        json_test_check(error == JSON_OK && consistent && json_test_prefixes(c), c->text, i);
    }
    for (size_t i = 0; i < JSON_COUNT(json_test_rejected); i++) {
        const struct json_test_case *c = &json_test_rejected[i];
        enum json_error error = json_test_parse(c->text, c->length, &consistent);
        json_test_check(error == c->error && consistent && json_test_prefixes(c), c->text, i);
        if (error != c->error)
            printf("    it said: %s\n", json_error_text(error));
    }
}

/* Bytes as a caller may have them, and the string the writer must make of them. */
struct json_test_string {
    const char *bytes;
    size_t length;
    const char *text;
};

#define JSON_TEXT(bytes, text) { bytes, sizeof(bytes) - 1, text }

/* Below, R stands for one replacement character. */
#define JSON_R "\xEF\xBF\xBD"

static const struct json_test_string json_test_strings[] = {
    JSON_TEXT("", "\"\""), JSON_TEXT("plain", "\"plain\""), JSON_TEXT("a\"b\\c/d", "\"a\\\"b\\\\c/d\""),
    JSON_TEXT("\b\f\n\r\t", "\"\\b\\f\\n\\r\\t\""), JSON_TEXT("\0\1\x1F\x7F", "\"\\u0000\\u0001\\u001f\\u007f\""),
    JSON_TEXT("</script>", "\"\\u003c/script>\""), JSON_TEXT("\xC2\x80\xC2\x9F\xC2\xA0", "\"\\u0080\\u009f\xC2\xA0\""),
    JSON_TEXT("\xE2\x80\xA7\xE2\x80\xA8\xE2\x80\xA9\xE2\x80\xAA", "\"\xE2\x80\xA7\\u2028\\u2029\xE2\x80\xAA\""),
    JSON_TEXT("\xF0\x9F\x98\x80", "\"\xF0\x9F\x98\x80\""), JSON_TEXT("\xEF\xBF\xBD", "\"" JSON_R "\""),
    JSON_TEXT("a\xFF" "b", "\"a" JSON_R "b\""), JSON_TEXT("\x80\xBF", "\"" JSON_R JSON_R "\""),
    JSON_TEXT("\xC2", "\"" JSON_R "\""), JSON_TEXT("\xC2" "A", "\"" JSON_R "A\""),
    JSON_TEXT("\xC0\x80", "\"" JSON_R JSON_R "\""), JSON_TEXT("\xC2\xC2\x80", "\"" JSON_R "\\u0080\""),
    JSON_TEXT("\xE2\x82", "\"" JSON_R "\""), JSON_TEXT("\xE2\x82" "A", "\"" JSON_R "A\""),
    JSON_TEXT("\xE2\x82\xE2\x82\xAC", "\"" JSON_R "\xE2\x82\xAC\""), JSON_TEXT("\xE2\"", "\"" JSON_R "\\\"\""),
    JSON_TEXT("\xE0\x80\x80", "\"" JSON_R JSON_R JSON_R "\""), JSON_TEXT("\xE0\xA0", "\"" JSON_R "\""),
    JSON_TEXT("\xED\xA0\x80", "\"" JSON_R JSON_R JSON_R "\""), JSON_TEXT("\xED\x9F", "\"" JSON_R "\""),
    JSON_TEXT("\xF0\x9F\x98", "\"" JSON_R "\""), JSON_TEXT("\xF0\x9F\x98<", "\"" JSON_R "\\u003c\""),
    JSON_TEXT("\xF0\x80\x80\x80", "\"" JSON_R JSON_R JSON_R JSON_R "\""), JSON_TEXT("\xF0\x90\x80", "\"" JSON_R "\""),
    JSON_TEXT("\xF4\x90\x80\x80", "\"" JSON_R JSON_R JSON_R JSON_R "\""), JSON_TEXT("\xF4\x8F", "\"" JSON_R "\""),
    JSON_TEXT("\xF5\x80", "\"" JSON_R JSON_R "\""), JSON_TEXT("\xFC\x80\x80", "\"" JSON_R JSON_R JSON_R "\""),
    /* The two examples of the Unicode standard, tables 3-8 and 3-11. */
    JSON_TEXT("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82" "A",
              "\"" JSON_R JSON_R JSON_R JSON_R JSON_R JSON_R JSON_R JSON_R "A\""),
    JSON_TEXT("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF" "A", "\"" JSON_R JSON_R JSON_R JSON_R "A\"")
};

static void json_test_writer_strings(void)
{
    for (size_t i = 0; i < JSON_COUNT(json_test_strings); i++) {
        const struct json_test_string *c = &json_test_strings[i];
        struct json_writer w;
        char *bytes = json_test_copy(c->bytes, c->length);
        json_start(&w);
        json_string_bytes(&w, bytes, c->length);
        json_test_check(json_done(&w) && strcmp(w.data, c->text) == 0 && w.length == strlen(c->text)
                            && json_test_string_round(bytes, c->length), "written string", i);
        json_free(&w);
        free(bytes);
    }
}

/* Frees a writer after checking its text; no text expected means that it must have failed. */
static void json_test_written(struct json_writer *w, const char *expected, const char *what, size_t number)
{
    bool good = expected == NULL ? w->failed && !json_done(w)
                                 : json_done(w) && strcmp(w->data, expected) == 0 && w->length == strlen(expected);
    json_test_check(good, what, number);
    if (!good)
        printf("    it wrote: %s\n", w->data == NULL ? "nothing" : w->data);
    json_free(w);
}

static void json_test_document(struct json_writer *w)
{
    json_object(w);
    json_key_string(w, "name", "a<b");
    json_key_unsigned(w, "size", UINT64_MAX);
    json_key_bool(w, "good", true);
    json_key(w, "list");
    json_array(w);
    json_signed(w, INT64_MIN);
    json_object(w);
    json_object_end(w);
    json_array(w);
    json_array_end(w);
    json_null(w);
    json_array_end(w);
    json_key(w, "speed");
    json_fixed(w, 1234);
    json_object_end(w);
}

static void json_test_writer_layout(void)
{
    static const char compact[] = "{\"name\":\"a\\u003cb\",\"size\":18446744073709551615,\"good\":true,"
                                  "\"list\":[-9223372036854775808,{},[],null],\"speed\":1.234}";
    static const char pretty[] = "{\n  \"name\": \"a\\u003cb\",\n  \"size\": 18446744073709551615,\n  \"good\": true,\n"
                                 "  \"list\": [\n    -9223372036854775808,\n    {},\n    [],\n    null\n  ],\n"
                                 "  \"speed\": 1.234\n}\n";
    struct json_writer w;
    json_start(&w);
    json_test_document(&w);
    json_test_written(&w, compact, "compact document", 0);
    w.json_pretty = true;
    json_test_document(&w);
    json_test_written(&w, pretty, "pretty document", 0);
    w.json_pretty = true;
    json_bool(&w, false);
    json_test_written(&w, "false\n", "pretty scalar", 0);
    json_test_check(!json_done(&w) && w.data == NULL, "an empty writer is not done", 0);
}

static void json_test_writer_numbers(void)
{
    static const struct { uint64_t thousandths; const char *text; } fixed[] = {
        { 0, "0.000" }, { 5, "0.005" }, { 50, "0.050" }, { 999, "0.999" }, { 1000, "1.000" }, { 1234, "1.234" },
        { 100000, "100.000" }, { UINT64_MAX, "18446744073709551.615" }
    };
    static const struct { int64_t n; const char *text; } whole[] = {
        { 0, "0" }, { 1, "1" }, { -1, "-1" }, { 10, "10" }, { -10, "-10" }, { INT64_MAX, "9223372036854775807" },
        { INT64_MIN, "-9223372036854775808" }
    };
    struct json_writer w;
    json_start(&w);
    for (size_t i = 0; i < JSON_COUNT(fixed); i++) {
        json_fixed(&w, fixed[i].thousandths);
        json_test_written(&w, fixed[i].text, "thousandths", i);
    }
    for (size_t i = 0; i < JSON_COUNT(whole); i++) {
        json_signed(&w, whole[i].n);
        json_test_written(&w, whole[i].text, "signed number", i);
    }
    json_unsigned(&w, 0);
    json_test_written(&w, "0", "unsigned number", 0);
    json_unsigned(&w, UINT64_MAX);
    json_test_written(&w, "18446744073709551615", "unsigned number", 1);
}

/*
 * Plays calls by their letters: o and O open and close an object, a and A an array, k writes a key, s a string, n
 * null, 1 a number, K a key of NULL, S a string of NULL, B one byte at NULL, E no bytes at NULL.
 */
static void json_test_play(struct json_writer *w, const char *calls)
{
    char key[2] = "a";
    for (; *calls != '\0'; calls++) {
        switch (*calls) {
        case 'o': json_object(w); break;
        case 'O': json_object_end(w); break;
        case 'a': json_array(w); break;
        case 'A': json_array_end(w); break;
        case 'k': json_key(w, key); key[0]++; break;
        case 's': json_string(w, "s"); break;
        case 'n': json_null(w); break;
        case '1': json_unsigned(w, 1); break;
        case 'K': json_key(w, NULL); break;
        case 'S': json_string(w, NULL); break;
        case 'B': json_string_bytes(w, NULL, 1); break;
        case 'E': json_string_bytes(w, NULL, 0); break;
        default: abort();
        }
    }
}

static void json_test_writer_misuse(void)
{
    static const char *const misuses[] = {
        "k", "O", "A", "aO", "oA", "ak", "ok1k1kO", "okk", "o1", "oo", "oa", "okO", "okA", "nn", "oOo", "aAA", "aAa",
        "okn1", "aaAAA", "oK", "aS", "S", "B", "oOk", "akA", "okaO", "aokA", "nA", "nO", "nk", "oknA", "a1O"
    };
    static const struct { const char *calls; const char *text; } uses[] = {
        { "E", "\"\"" }, { "aEA", "[\"\"]" }, { "oksk1O", "{\"a\":\"s\",\"b\":1}" }, { "aoOaAA", "[{},[]]" },
        { "okaokoOAO", NULL }, { "okaokoOOAO", "{\"a\":[{\"b\":{}}]}" }, { "aaA1A", "[[],1]" },
        { "aaaAnAnAn", NULL }, { "okoOk1O", "{\"a\":{},\"b\":1}" }, { "okaAknO", "{\"a\":[],\"b\":null}" }
    };
    struct json_writer w;
    json_start(&w);
    for (size_t i = 0; i < JSON_COUNT(misuses); i++) {
        json_test_play(&w, misuses[i]);
        bool failed = w.failed;
        size_t length = w.length;
        /* What comes after a failure changes nothing. */
        json_test_play(&w, "nsokOaA1E");
        json_test_check(failed && w.failed && w.length == length && !json_done(&w), misuses[i], i);
        json_free(&w);
    }
    for (size_t i = 0; i < JSON_COUNT(uses); i++) {
        json_test_play(&w, uses[i].calls);
        json_test_written(&w, uses[i].text, uses[i].calls, i);
    }
}

static void json_test_writer_depth(void)
{
    struct json_writer w;
    for (unsigned depth = JSON_DEPTH_MAX; depth <= JSON_DEPTH_MAX + 1; depth++) {
        json_start(&w);
        for (unsigned i = 0; i < depth; i++)
            json_array(&w);
        for (unsigned i = 0; i < depth; i++)
            json_array_end(&w);
        json_test_check(json_done(&w) == (depth == JSON_DEPTH_MAX), "depth of the writer", depth);
        json_free(&w);
    }
}

/* The first allocation fails, then the second, until one run sees no failure. */
static void json_test_writer_memory(void)
{
    struct json_writer w;
    char *large = malloc(100000);
    bool good = large != NULL;
    long runs = 0;
    if (large != NULL)
        memset(large, 'x', 100000);
    for (bool finished = false; good && !finished; runs++) {
        json_test_allocations_left = runs;
        json_start(&w);
        json_array(&w);
        for (size_t length = 1; length <= 100000; length *= 10)
            json_string_bytes(&w, large, length);
        json_array_end(&w);
        finished = !w.failed;
        good = json_done(&w) == finished && (w.data == NULL || w.data[w.length] == '\0');
        json_free(&w);
    }
    json_test_allocations_left = -1;
    json_test_check(good && runs > 3, "failing allocations", (size_t)runs);
    json_start(&w);
    json_test_check(!json_reserve(&w, SIZE_MAX - 1) && w.failed, "a capacity that does not fit", 0);
    json_free(&w);
    free(large);
}

/* All sequences of up to three bytes; how many must be valid follows from the size of each range of code points. */
static void json_test_utf8_counts(void)
{
    unsigned long counts[4] = { 0 };
    for (unsigned long n = 0; n < 0x1000000; n++) {
        unsigned char bytes[3] = { (unsigned char)n, (unsigned char)(n >> 8), (unsigned char)(n >> 16) };
        counts[1] += n < 0x100 && json_utf8_valid(bytes, 1);
        counts[2] += n < 0x10000 && json_utf8_valid(bytes, 2);
        counts[3] += json_utf8_valid(bytes, 3);
    }
    json_test_check(counts[1] == 128, "valid sequences of one byte", counts[1]);
    json_test_check(counts[2] == 128 * 128 + 1920, "valid sequences of two bytes", counts[2]);
    json_test_check(counts[3] == 128 * 128 * 128 + 2 * 128 * 1920 + 61440, "valid sequences of three bytes", counts[3]);
}

/* Every code point survives encoding and decoding; with its last byte missing it is one maximal subpart. */
static void json_test_utf8_points(void)
{
    bool good = json_utf8_valid(NULL, 0);
    for (uint32_t point = 0; point < 0x110000 && good; point++) {
        unsigned char bytes[4];
        uint32_t decoded;
        size_t size = json_utf8_encode(point, bytes);
        bool surrogate = point >= 0xD800 && point < 0xE000;
        good = json_utf8_valid(bytes, size) == !surrogate;
        if (good && !surrogate)
            good = json_utf8_decode(bytes, size, &decoded) == size && decoded == point;
        if (good && !surrogate && size > 1)
            good = json_utf8_decode(bytes, size - 1, &decoded) == size - 1 && decoded == JSON_INVALID;
    }
    json_test_check(good, "every code point", 0);
    /* Of four bytes, the ends of every range of second, third and fourth bytes. */
    static const unsigned char ends[] = { 0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xFF };
    good = true;
    for (unsigned n = 0; n < 16 * 1000; n++) {
        unsigned char b[4] = { (unsigned char)(0xF0 + n / 1000), ends[n / 100 % 10], ends[n / 10 % 10], ends[n % 10] };
        uint32_t point = (b[0] & 7u) << 18 | (b[1] & 63u) << 12 | (b[2] & 63u) << 6 | (b[3] & 63u);
        bool valid = b[0] < 0xF8 && b[1] >> 6 == 2 && b[2] >> 6 == 2 && b[3] >> 6 == 2 && point >= 0x10000
            && point < 0x110000;
        good = good && json_utf8_valid(b, 4) == valid;
    }
    json_test_check(good, "sequences of four bytes", 0);
}

static void json_test_depth(void)
{
    bool consistent;
    for (size_t depth = JSON_DEPTH_MAX - 1; depth <= JSON_DEPTH_MAX + 1; depth++) {
        enum json_error expected = depth <= JSON_DEPTH_MAX ? JSON_OK : JSON_TOO_DEEP;
        char text[6 * (JSON_DEPTH_MAX + 1) + 1];
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        json_test_check(json_test_parse(text, 2 * depth, &consistent) == expected && consistent, "deep arrays", depth);
        for (size_t i = 0; i < depth; i++)
            memcpy(text + 5 * i, "{\"a\":", 5);
        text[5 * depth] = '1';
        memset(text + 5 * depth + 1, '}', depth);
        json_test_check(json_test_parse(text, 6 * depth + 1, &consistent) == expected && consistent, "deep objects",
                        depth);
    }
    /* Depth is about what is open; how many containers a text has in all does not count. */
    char text[303] = "[";
    for (size_t i = 0; i < 100; i++)
        memcpy(text + 1 + 3 * i, "[],", 3);
    memcpy(text + 301, "1]", 2);
    json_test_check(json_test_parse(text, sizeof text, &consistent) == JSON_OK && consistent, "wide array", 0);
}

static void json_test_brackets(void)
{
    static const struct { const char *text; enum json_error error; } units[] = {
        { "[", JSON_TOO_DEEP }, { "{\"\":", JSON_TOO_DEEP }, { "[{\"a\":[", JSON_TOO_DEEP },
        { "[[],", JSON_TOO_DEEP }, { "{", JSON_SYNTAX }, { "]", JSON_SYNTAX }
    };
    struct json_token tokens[2 * JSON_DEPTH_MAX];
    for (size_t i = 0; i < JSON_COUNT(units); i++) {
        size_t unit = strlen(units[i].text), length = 100000 * unit, offset;
        char *text = malloc(length);
        if (text == NULL) {
            json_test_skipped++;
            continue;
        }
        for (size_t at = 0; at < length; at += unit)
            memcpy(text + at, units[i].text, unit);
        enum json_error error = json_parse(text, length, tokens, JSON_COUNT(tokens), NULL, &offset);
        json_test_check(error == units[i].error && offset < 200, "100,000 brackets", i);
        free(text);
    }
}

static void json_test_token_limit(void)
{
    static const char text[] = "{\"a\":[1,{\"b\":null}],\"c\":\"d\"}";
    struct json_token tokens[10];
    uint32_t used = 99;
    size_t offset;
    for (uint32_t room = 0; room < 9; room++) {
        enum json_error error = json_parse(text, sizeof text - 1, tokens, room, &used, &offset);
        json_test_check(error == JSON_TOO_MANY_TOKENS && used == 0 && offset < sizeof text, "too few tokens", room);
    }
    json_test_check(json_parse(text, sizeof text - 1, tokens, 9, &used, &offset) == JSON_OK && used == 9
                        && offset == sizeof text - 1, "just enough tokens", 0);
    static const struct json_token expected[] = {
        { JSON_OBJECT, 0, 28, 4, 9 }, { JSON_STRING, 2, 1, 0, 2 }, { JSON_ARRAY, 5, 14, 2, 7 },
        { JSON_NUMBER, 6, 1, 0, 4 }, { JSON_OBJECT, 8, 10, 2, 7 }, { JSON_STRING, 10, 1, 0, 6 },
        { JSON_NULL, 13, 4, 0, 7 }, { JSON_STRING, 21, 1, 0, 8 }, { JSON_STRING, 25, 1, 0, 9 }
    };
    for (size_t i = 0; i < JSON_COUNT(expected); i++) {
        const struct json_token *a = &tokens[i], *b = &expected[i];
        json_test_check(a->type == b->type && a->start == b->start && a->length == b->length
                            && a->children == b->children && a->next == b->next, "token", i);
    }
    json_test_check(json_parse(NULL, 0, NULL, 0, NULL, NULL) == JSON_SYNTAX, "no text at all", 0);
    json_test_check(json_parse("1", 1, NULL, 0, NULL, NULL) == JSON_TOO_MANY_TOKENS, "no tokens at all", 0);
}

static void json_test_size_limit(void)
{
    struct json_token token;
    size_t offset;
    char *text = malloc(JSON_SIZE_MAX + 1);
    if (text == NULL) {
        json_test_skipped += 4;
        return;
    }
    memset(text, ' ', JSON_SIZE_MAX + 1);
    text[JSON_SIZE_MAX - 1] = '7';
    json_test_check(json_parse(text, JSON_SIZE_MAX, &token, 1, NULL, &offset) == JSON_OK && offset == JSON_SIZE_MAX,
                    "text of the greatest size", 0);
    json_test_check(json_parse(text, JSON_SIZE_MAX + 1, &token, 1, NULL, &offset) == JSON_TOO_LONG
                        && offset == JSON_SIZE_MAX, "text that is one byte too long", 0);
    memset(text, 'a', JSON_SIZE_MAX);
    text[0] = '"';
    text[JSON_SIZE_MAX - 1] = '"';
    json_test_check(json_parse(text, JSON_SIZE_MAX, &token, 1, NULL, NULL) == JSON_OK
                        && token.length == JSON_SIZE_MAX - 2, "string of the greatest size", 0);
    json_test_check(json_parse(text, SIZE_MAX, &token, 1, NULL, NULL) == JSON_TOO_LONG, "length of SIZE_MAX", 0);
    free(text);
}

static void json_test_offsets(void)
{
    static const struct { const char *text; size_t offset; } cases[] = {
        { "", 0 }, { " x", 1 }, { "[1,]", 3 }, { "[1 2]", 3 }, { "{\"a\" 1}", 5 }, { "1 2", 2 }, { "[01]", 1 },
        { "[-]", 2 }, { "[1.]", 3 }, { "[1e]", 3 }, { "\"ab\\q\"", 3 }, { "\"ab", 3 }, { "\"a\nb\"", 2 },
        { "\"a\xFF\"", 2 }, { "[truE]", 1 }, { "{\"a\":1,\"a\":2}", 8 }, { "[]]", 2 }, { "\"\\ud800\"", 1 }
    };
    for (size_t i = 0; i < JSON_COUNT(cases); i++) {
        struct json_token tokens[16];
        size_t offset = SIZE_MAX;
        enum json_error error = json_parse(cases[i].text, strlen(cases[i].text), tokens, 16, NULL, &offset);
        json_test_check(error != JSON_OK && offset == cases[i].offset, "offset of an error", i);
    }
    for (int error = JSON_OK; error <= JSON_TRAILING; error++)
        json_test_check(strcmp(json_error_text((enum json_error)error), "unknown error") != 0, "text of an error",
                        (size_t)error);
    json_test_check(strcmp(json_error_text((enum json_error)99), "unknown error") == 0, "text of an error", 99);
}

static void json_test_lookup(void)
{
    static const char text[] = "{\"a\":{\"b\":1,\"x\":[2,{\"c\":3}]},\"\\u0062\":4,\"\\ud83d\\ude00\":5,\"\xC3\xA9\":6,"
                               "\"\":7,\"q\\\"\\/\":8,\"n\\u0000\":9,\"c\":10,\"\\u20AC\":11}";
    static const struct { const char *key; uint64_t n; } found[] = {
        { "b", 4 }, { "\xF0\x9F\x98\x80", 5 }, { "\xC3\xA9", 6 }, { "", 7 }, { "q\"/", 8 }, { "c", 10 },
        { "\xE2\x82\xAC", 11 }
    };
    static const char *const missing[] = { "n", "x", "A", "aa", "\\u0062", "q\"", "q\"/ ", "\xF0\x9F\x98", "\xC3",
                                           "\xFF", "\xE2\x82" };
    struct json_token tokens[40];
    uint64_t n = 0;
    json_test_check(json_parse(text, sizeof text - 1, tokens, 40, NULL, NULL) == JSON_OK, "text to look up in", 0);
    for (size_t i = 0; i < JSON_COUNT(found); i++)
        json_test_check(json_get_unsigned(text, json_member(text, tokens, &tokens[0], found[i].key), &n)
                            && n == found[i].n, "member", i);
    for (size_t i = 0; i < JSON_COUNT(missing); i++)
        json_test_check(json_member(text, tokens, &tokens[0], missing[i]) == NULL, "missing member", i);
    const struct json_token *inner = json_member(text, tokens, &tokens[0], "a");
    json_test_check(json_get_unsigned(text, json_member(text, tokens, inner, "b"), &n) && n == 1, "inner member", 0);
    const struct json_token *list = json_member(text, tokens, inner, "x");
    json_test_check(list != NULL && list->type == JSON_ARRAY && list->children == 2, "inner member", 1);
    json_test_check(json_member(text, tokens, list, "c") == NULL, "member of an array", 0);
    json_test_check(json_member(text, tokens, NULL, "c") == NULL, "member of nothing", 0);
    json_test_check(json_member(text, tokens, inner, "c") == NULL, "member of an inner object only", 0);
}

static void json_test_get_unsigned(void)
{
    static const struct { const char *text; bool good; uint64_t n; } cases[] = {
        { "0", true, 0 }, { "9", true, 9 }, { "1234567890", true, 1234567890 },
        { "18446744073709551615", true, UINT64_MAX }, { "18446744073709551616", false, 0 },
        { "18446744073709551625", false, 0 }, { "28446744073709551615", false, 0 },
        { "184467440737095516150", false, 0 }, { "99999999999999999999999999", false, 0 }, { "-0", false, 0 },
        { "-1", false, 0 }, { "1.0", false, 0 }, { "1e2", false, 0 }, { "0e0", false, 0 }, { "\"1\"", false, 0 },
        { "true", false, 0 }, { "null", false, 0 }, { "[]", false, 0 }
    };
    for (size_t i = 0; i < JSON_COUNT(cases); i++) {
        struct json_token token;
        uint64_t n = 77;
        enum json_error error = json_parse(cases[i].text, strlen(cases[i].text), &token, 1, NULL, NULL);
        json_test_check(error == JSON_OK && json_get_unsigned(cases[i].text, &token, &n) == cases[i].good
                            && n == (cases[i].good ? cases[i].n : 77), "reading a number", i);
    }
    uint64_t n = 77;
    json_test_check(!json_get_unsigned("", NULL, &n) && n == 77, "reading no number", 0);
}

static void json_test_get_string(void)
{
    static const struct { const char *text; const char *decoded; } cases[] = {
        { "\"\"", "" }, { "\"abc\"", "abc" }, { "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t" },
        { "\"\\u0041\\u00e9\\u20AC\"", "A\xC3\xA9\xE2\x82\xAC" }, { "\"\\ud83d\\ude00\"", "\xF0\x9F\x98\x80" },
        { "\"\\uD800\\uDC00\"", "\xF0\x90\x80\x80" }, { "\"\\uDBFF\\uDFFF\"", "\xF4\x8F\xBF\xBF" },
        { "\"\xE2\x82\xAC\"", "\xE2\x82\xAC" }, { "\"\\uFFFF\"", "\xEF\xBF\xBF" }, { "\"\\\\u0041\"", "\\u0041" },
        { "\"\\u0000\"", NULL }, { "\"a\\u0000b\"", NULL }, { "1", NULL }, { "[]", NULL }
    };
    for (size_t i = 0; i < JSON_COUNT(cases); i++) {
        struct json_token token;
        const char *decoded = cases[i].decoded;
        size_t size = decoded == NULL ? 8 : strlen(decoded) + 1, length = 99;
        char *out = json_test_copy("12345678901234567890", size);
        bool good = json_parse(cases[i].text, strlen(cases[i].text), &token, 1, NULL, NULL) == JSON_OK;
        bool got = json_get_string(cases[i].text, &token, out, size, &length);
        if (decoded != NULL)
            good = good && got && length == size - 1 && strcmp(out, decoded) == 0;
        else
            good = good && !got && length == 0 && out[0] == '\0';
        /* Any smaller buffer must be refused, and hold an empty string if it holds anything. */
        for (size_t room = 0; room < size && decoded != NULL; room++) {
            out[0] = 'x';
            good = good && !json_get_string(cases[i].text, &token, out, room, NULL);
            good = good && out[0] == (room == 0 ? 'x' : '\0');
        }
        json_test_check(good, "reading a string", i);
        free(out);
    }
    char out[4] = "abc";
    json_test_check(!json_get_string("", NULL, out, sizeof out, NULL) && out[0] == '\0', "reading no string", 0);
}

/* A source of numbers that is the same everywhere for the same seed (splitmix64). */
struct json_test_random {
    uint64_t state;
};

static uint64_t json_test_next(struct json_test_random *random)
{
    uint64_t n = random->state += 0x9E3779B97F4A7C15u;
    n = (n ^ (n >> 30)) * 0xBF58476D1CE4E5B9u;
    n = (n ^ (n >> 27)) * 0x94D049BB133111EBu;
    return n ^ (n >> 31);
}

static uint64_t json_test_below(struct json_test_random *random, uint64_t limit)
{
    return json_test_next(random) % limit;
}

#define JSON_TEST_STRING_MAX 64

/* A random string: mostly ASCII with all that needs escaping, and code points of every encoded size, but no NUL. */
static size_t json_test_random_string(struct json_test_random *random, char out[JSON_TEST_STRING_MAX])
{
    static const uint32_t limits[] = { 0x20, 0x80, 0x80, 0x100, 0x800, 0x3000, 0x10000, 0x110000 };
    size_t length = 0;
    for (uint64_t left = json_test_below(random, JSON_TEST_STRING_MAX / 4); left > 0; left--) {
        uint32_t limit = limits[json_test_below(random, JSON_COUNT(limits))];
        uint32_t point = 1 + (uint32_t)json_test_below(random, limit - 1);
        if (point >= 0xD800 && point < 0xE000)
            point = '<';
        length += json_utf8_encode(point, (unsigned char *)out + length);
    }
    out[length] = '\0';
    return length;
}

/* What a random value is; the writing and the expecting side draw the same ones from the same seed. */
struct json_test_value {
    enum json_type type;
    uint64_t number;                  /* Also the count of items of a container. */
    unsigned form;                    /* Of a number: 0 unsigned, 1 signed, 2 thousandths. */
    char string[JSON_TEST_STRING_MAX];
    size_t length;
};

static struct json_test_value json_test_draw(struct json_test_random *random, unsigned depth)
{
    struct json_test_value value = { .type = JSON_NULL };
    bool container = depth < 5 && (depth == 0 || json_test_below(random, 2) == 0);
    value.type = (enum json_type)(container ? json_test_below(random, 2) : 2 + json_test_below(random, 5));
    value.form = (unsigned)json_test_below(random, 3);
    value.number = container ? json_test_below(random, 6) : json_test_next(random) >> json_test_below(random, 64);
    value.length = json_test_random_string(random, value.string);
    return value;
}

static void json_test_draw_key(struct json_test_random *random, uint64_t number, char key[JSON_TEST_STRING_MAX + 1])
{
    key[0] = (char)('0' + number);
    json_test_random_string(random, key + 1);
}

static void json_test_write_random(struct json_writer *w, struct json_test_random *random, unsigned depth)
{
    struct json_test_value value = json_test_draw(random, depth);
    switch (value.type) {
    case JSON_OBJECT:
    case JSON_ARRAY:
        json_open(w, value.type == JSON_OBJECT);
        for (uint64_t i = 0; i < value.number; i++) {
            char key[JSON_TEST_STRING_MAX + 1];
            json_test_draw_key(random, i, key);
            if (value.type == JSON_OBJECT)
                json_key(w, key);
            json_test_write_random(w, random, depth + 1);
        }
        json_close(w, value.type == JSON_OBJECT);
        break;
    case JSON_STRING: json_string(w, value.string); break;
    case JSON_NUMBER:
        if (value.form == 0)
            json_unsigned(w, value.number);
        else if (value.form == 1)
            json_signed(w, (int64_t)(value.number >> 1) - (int64_t)(UINT64_MAX >> 3));
        else
            json_fixed(w, value.number);
        break;
    case JSON_TRUE:
    case JSON_FALSE: json_bool(w, value.type == JSON_TRUE); break;
    case JSON_NULL: json_null(w); break;
    }
}

/* Tells whether a number reads as the C library prints it. */
static bool json_test_expect_number(const struct json_test_value *value, const char *text,
                                    const struct json_token *token)
{
    char expected[32];
    uint64_t n = 0;
    long long moved = (long long)((int64_t)(value->number >> 1) - (int64_t)(UINT64_MAX >> 3));
    unsigned long long number = value->number;
    if (value->form == 0)
        snprintf(expected, sizeof expected, "%llu", number);
    else if (value->form == 1)
        snprintf(expected, sizeof expected, "%lld", moved);
    else
        snprintf(expected, sizeof expected, "%llu.%03llu", number / 1000, number % 1000);
    if (value->form == 0 && (!json_get_unsigned(text, token, &n) || n != value->number))
        return false;
    return token->length == strlen(expected) && memcmp(text + token->start, expected, token->length) == 0;
}

static bool json_test_expect_random(struct json_test_random *random, const char *text,
                                    const struct json_token *tokens, uint32_t index, unsigned depth)
{
    struct json_test_value value = json_test_draw(random, depth);
    const struct json_token *token = &tokens[index];
    bool is_object = token->type == JSON_OBJECT;
    char out[JSON_TEST_STRING_MAX];
    size_t length;
    if (token->type != value.type)
        return false;
    if (token->type == JSON_NUMBER)
        return json_test_expect_number(&value, text, token);
    if (token->type == JSON_STRING)
        return json_get_string(text, token, out, sizeof out, &length) && length == value.length
            && memcmp(out, value.string, length) == 0;
    if (!is_object && token->type != JSON_ARRAY)
        return true;
    if (token->children != value.number * (is_object ? 2 : 1))
        return false;
    uint32_t child = index + 1;
    for (uint64_t i = 0; i < value.number; i++) {
        char key[JSON_TEST_STRING_MAX + 1];
        json_test_draw_key(random, i, key);
        if (is_object && json_member(text, tokens, token, key) != &tokens[++child])
            return false;
        if (!json_test_expect_random(random, text, tokens, child, depth + 1))
            return false;
        child = tokens[child].next;
    }
    return child == token->next;
}

static void json_test_round_trips(uint64_t seed)
{
    static struct json_token tokens[32768];
    bool good = true;
    unsigned i = 0;
    for (; i < 2000 && good; i++) {
        struct json_test_random writing = { seed + i }, reading = { seed + i };
        struct json_writer w;
        uint32_t used = 0;
        bool consistent = false;
        json_start(&w);
        w.json_pretty = i % 2 == 1;
        json_test_write_random(&w, &writing, 0);
        good = json_done(&w) && json_parse(w.data, w.length, tokens, JSON_COUNT(tokens), &used, NULL) == JSON_OK
            && json_test_expect_random(&reading, w.data, tokens, 0, 0)
            && json_test_parse(w.data, w.length, &consistent) == JSON_OK && consistent;
        json_free(&w);
    }
    json_test_check(good, "round trips", i);
}

/* Random damage to good texts, and random bytes as strings: the answers must stay consistent. */
static void json_test_damage(uint64_t seed)
{
    struct json_test_random random = { seed };
    bool good = true;
    unsigned i = 0;
    for (; i < 20000 && good; i++) {
        const struct json_test_case *c = &json_test_accepted[json_test_below(&random, JSON_COUNT(json_test_accepted))];
        char *text = json_test_copy(c->text, c->length);
        for (uint64_t left = json_test_below(&random, 3); left > 0; left--)
            text[json_test_below(&random, c->length)] = (char)json_test_next(&random);
        json_test_parse(text, c->length, &good);
        good = good && json_test_string_round(text, c->length);
        free(text);
    }
    json_test_check(good, "damaged texts", i);
}

/* Objects of every size up to some hundred keys, in random order, without and then with one key twice. */
static void json_test_duplicates(uint64_t seed)
{
    static struct json_token tokens[1024];
    struct json_test_random random = { seed };
    for (unsigned count = 2; count < 260; count++) {
        uint64_t salt = json_test_next(&random);
        unsigned first = (unsigned)json_test_below(&random, count - 1);
        unsigned second = first + 1 + (unsigned)json_test_below(&random, count - 1 - first);
        for (int twice = 0; twice < 2; twice++) {
            struct json_writer w;
            json_start(&w);
            json_object(&w);
            for (unsigned i = 0; i < count; i++) {
                /* An odd factor makes a permutation of 32 bits, so these keys differ. */
                uint32_t name = (twice == 1 && i == second ? first : i) * ((uint32_t)salt | 1);
                char key[16];
                snprintf(key, sizeof key, "%lx", (unsigned long)name);
                json_key_unsigned(&w, key, i);
            }
            json_object_end(&w);
            enum json_error error = json_parse(w.data, w.length, tokens, JSON_COUNT(tokens), NULL, NULL);
            json_test_check(json_done(&w) && error == (twice == 1 ? JSON_DUPLICATE_KEY : JSON_OK), "key twice", count);
            json_free(&w);
        }
    }
}

/* Very many keys in one object, for which comparing all pairs would take hours. */
static void json_test_many_keys(void)
{
    uint32_t count = 500000;
    struct json_writer w;
    struct json_token *tokens = malloc((2 * count + 1) * sizeof *tokens);
    if (tokens == NULL) {
        json_test_skipped += 2;
        return;
    }
    for (int twice = 0; twice < 2; twice++) {
        size_t offset = 0;
        json_start(&w);
        json_object(&w);
        for (uint32_t i = 0; i < count; i++) {
            char key[16];
            snprintf(key, sizeof key, "key%07lu", (unsigned long)(twice == 1 && i == count - 1 ? 0 : i));
            json_key_unsigned(&w, key, 1);
        }
        json_object_end(&w);
        enum json_error error = json_parse(w.data, w.length, tokens, 2 * count + 1, NULL, &offset);
        json_test_check(json_done(&w) && error == (twice == 1 ? JSON_DUPLICATE_KEY : JSON_OK)
                            && offset == w.length - (twice == 1 ? strlen("key0000000\":1}") : 0),
                        "very many keys", (size_t)twice);
        json_free(&w);
    }
    free(tokens);
}

/* Reads standard input and returns the exit status: 0 if it is valid, 1 if not, 2 if that could not be found out. */
static int json_test_standard_input(void)
{
    char *text = malloc(JSON_SIZE_MAX + 1);
    size_t length = text == NULL ? 0 : fread(text, 1, JSON_SIZE_MAX + 1, stdin);
    /* A value takes a byte and all but the last one a separator, or else brackets of which depth is the limit. */
    uint32_t room = (uint32_t)(length / 2) + JSON_DEPTH_MAX + 2;
    struct json_token *tokens = malloc(room * sizeof *tokens);
    size_t offset = 0;
    int status = 2;
    if (text != NULL && tokens != NULL && !ferror(stdin)) {
        enum json_error error = json_parse(text, length, tokens, room, NULL, &offset);
        status = error == JSON_OK ? 0 : 1;
        if (error != JSON_OK)
            fprintf(stderr, "byte %zu: %s\n", offset, json_error_text(error));
    }
    free(tokens);
    free(text);
    return status;
}

/* A seed from the system, or a fixed one if there is no such device. */
static uint64_t json_test_any_seed(void)
{
    uint64_t seed = 1;
    FILE *file = fopen("/dev/urandom", "rb");
    if (file != NULL) {
        if (fread(&seed, sizeof seed, 1, file) != 1)
            seed = 1;
        fclose(file);
    }
    return seed >> 32;
}

int main(int argc, char **argv)
{
    uint64_t seed = json_test_any_seed();
    struct json_token token;
    if (argc == 2 && strcmp(argv[1], "--check") == 0)
        return json_test_standard_input();
    bool seeded = argc == 3 && strcmp(argv[1], "--seed") == 0
        && json_parse(argv[2], strlen(argv[2]), &token, 1, NULL, NULL) == JSON_OK
        && json_get_unsigned(argv[2], &token, &seed);
    if (argc != 1 && !seeded) {
        fprintf(stderr, "usage: %s [--seed N | --check]\n", argv[0]);
        return 2;
    }
    printf("seed %llu\n", (unsigned long long)seed);
    json_test_cases();
    json_test_writer_strings();
    json_test_writer_layout();
    json_test_writer_numbers();
    json_test_writer_misuse();
    json_test_writer_depth();
    json_test_writer_memory();
    json_test_utf8_counts();
    json_test_utf8_points();
    json_test_depth();
    json_test_brackets();
    json_test_token_limit();
    json_test_size_limit();
    json_test_offsets();
    json_test_lookup();
    json_test_get_unsigned();
    json_test_get_string();
    json_test_round_trips(seed);
    json_test_damage(seed);
    json_test_duplicates(seed);
    json_test_many_keys();
    printf("%u passed, %u failed, %u skipped\n", json_test_passed, json_test_failed, json_test_skipped);
    return json_test_failed == 0 ? 0 : 1;
}

#endif

#endif
