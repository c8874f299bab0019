"""BLAKE3 (derive-key mode, extended output) and Ed25519 by ZIP-215, from their specifications, with the standard
library only. Slow and plain on purpose: it checks another implementation."""

import hashlib
import struct

# --- BLAKE3, as in the specification's reference implementation -----------------------------------------------------

IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
CHUNK_START, CHUNK_END, PARENT, ROOT, CONTEXT, MATERIAL = 1, 2, 4, 8, 32, 64
MASK = 0xFFFFFFFF


def _rotate(word, bits):
    return ((word >> bits) | (word << (32 - bits))) & MASK


def _mix(v, a, b, c, d, x, y):
    v[a] = (v[a] + v[b] + x) & MASK
    v[d] = _rotate(v[d] ^ v[a], 16)
    v[c] = (v[c] + v[d]) & MASK
    v[b] = _rotate(v[b] ^ v[c], 12)
    v[a] = (v[a] + v[b] + y) & MASK
    v[d] = _rotate(v[d] ^ v[a], 8)
    v[c] = (v[c] + v[d]) & MASK
    v[b] = _rotate(v[b] ^ v[c], 7)


def _compress(chaining, block, counter, length, flags):
    m = list(struct.unpack("<16I", block.ljust(64, b"\0")))
    v = list(chaining) + list(IV[:4]) + [counter & MASK, counter >> 32, length, flags]
    for round_number in range(7):
        for i in range(4):
            _mix(v, i, 4 + i, 8 + i, 12 + i, m[2 * i], m[2 * i + 1])
        for i in range(4):
            _mix(v, i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4, m[8 + 2 * i], m[9 + 2 * i])
        if round_number < 6:
            m = [m[i] for i in PERMUTATION]
    return [v[i] ^ v[i + 8] for i in range(8)] + [v[i + 8] ^ chaining[i] for i in range(8)]


def _chunk(key, data, counter, flags):
    """What is left to compress of one chunk: (chaining value, last block, counter, length, flags)."""
    blocks = [data[i : i + 64] for i in range(0, len(data), 64)] or [b""]
    chaining = key
    for number, block in enumerate(blocks[:-1]):
        start = CHUNK_START if number == 0 else 0
        chaining = _compress(chaining, block, counter, 64, flags | start)[:8]
    start = CHUNK_START if len(blocks) == 1 else 0
    return chaining, blocks[-1], counter, len(blocks[-1]), flags | start | CHUNK_END


def _node(key, data, counter, flags):
    if len(data) <= 1024:
        return _chunk(key, data, counter, flags)
    chunks = (len(data) + 1023) // 1024
    left = 1 << ((chunks - 1).bit_length() - 1)
    halves = (_node(key, data[: left * 1024], counter, flags), _node(key, data[left * 1024 :], counter + left, flags))
    block = b"".join(struct.pack("<8I", *_compress(*half)[:8]) for half in halves)
    return key, block, 0, 64, flags | PARENT


def _blake3(key, data, flags, length=32):
    chaining, block, _, block_length, node_flags = _node(key, data, 0, flags)
    out = b""
    while len(out) < length:
        out += struct.pack("<16I", *_compress(chaining, block, len(out) // 64, block_length, node_flags | ROOT))
    return out[:length]


_KEYS = {}


def derive(context, data, length=32):
    """BLAKE3's derive_key."""
    if context not in _KEYS:
        _KEYS[context] = struct.unpack("<8I", _blake3(IV, context.encode(), CONTEXT))
    return _blake3(_KEYS[context], data, MATERIAL, length)


# --- Ed25519, RFC 8032, verified by ZIP-215 -------------------------------------------------------------------------

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
SQRT_M1 = pow(2, (P - 1) // 4, P)


def _decompress(data):
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, (y & ((1 << 255) - 1)) % P  # ZIP-215: a y that is not canonical is taken modulo p
    u, v = (y * y - 1) % P, (D * y * y + 1) % P
    x = u * pow(v, 3, P) * pow(u * pow(v, 7, P), (P - 5) // 8, P) % P
    if v * x * x % P == -u % P:
        x = x * SQRT_M1 % P
    if v * x * x % P != u:
        return None
    if x & 1 != sign:
        x = -x % P
    return x, y, 1, x * y % P


def _add(p, q):
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def _multiply(scalar, point):
    result = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            result = _add(result, point)
        point = _add(point, point)
        scalar >>= 1
    return result


_BASE_Y = 4 * pow(5, P - 2, P) % P
BASE = _decompress(_BASE_Y.to_bytes(32, "little"))


def verify(public, message, signature):
    """Whether 8 (s B - R - k A) is the neutral element, s being canonical."""
    point, commitment = _decompress(public), _decompress(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if point is None or commitment is None or s >= L:
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % L
    negate = lambda p: (-p[0] % P, p[1], p[2], -p[3] % P)
    rest = _add(_add(_multiply(s, BASE), negate(commitment)), negate(_multiply(k, point)))
    x, y, z, _ = _multiply(8, rest)
    return x == 0 and (y - z) % P == 0
