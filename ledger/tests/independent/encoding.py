"""The encodings of FORMAT.md, sections 1 and 4 to 8: strict decoders, written from the text alone."""


class Refused(Exception):
    """Bytes that are no canonical encoding."""


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        if self.at + count > len(self.data):
            raise Refused("ends early")
        self.at += count
        return self.data[self.at - count : self.at]

    def varint(self, bits):
        number, shift = 0, 0
        while True:
            byte = self.take(1)[0]
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                if (byte == 0 and shift > 7) or number >> bits:
                    raise Refused("a varint that is too long or too great")
                return number
            if shift > 63:
                raise Refused("a varint that does not end")


def u8(r):
    return r.take(1)[0]


def u32(r):
    return r.varint(32)


def u64(r):
    return r.varint(64)


def boolean(r):
    byte = u8(r)
    if byte > 1:
        raise Refused("not a bool")
    return byte == 1


def fixed(count):
    return lambda r: r.take(count)


hash_, key, signature, nonce = fixed(32), fixed(32), fixed(64), fixed(16)


def blob(r):
    return r.take(u64(r))


def text(r):
    try:
        return blob(r).decode()
    except UnicodeDecodeError as error:
        raise Refused("not UTF-8") from error


def listing(element):
    return lambda r: [element(r) for _ in range(u64(r))]


def option(element):
    return lambda r: element(r) if boolean(r) else None


def fields(**kinds):
    return lambda r: {name: kind(r) for name, kind in kinds.items()}


def pair(*kinds):
    return lambda r: tuple(kind(r) for kind in kinds)


def enum(*variants):
    """Each variant: (name, decoder or None). Gives (name, content)."""

    def read(r):
        number = u32(r)
        if number >= len(variants):
            raise Refused("an unknown variant")
        name, content = variants[number]
        return name, content(r) if content else None

    return read


def decode(kind, data):
    r = Reader(data)
    value = kind(r)
    if r.at != len(data):
        raise Refused("bytes left over")
    return value


version = pair(u64, u32)
condition = enum(("absent", None), ("present", None), ("version", version), ("value", blob))
operation = enum(
    ("put", fields(namespace=text, key=blob, value=blob)),
    ("delete", fields(namespace=text, key=blob)),
    ("require", fields(namespace=text, key=blob, condition=condition)),
)
transaction_body = fields(
    version=u8, network=hash_, sender=key, nonce=nonce, expires_at=u64, operations=listing(operation), memo=blob
)
entry = fields(slot=u32, outgoing=boolean, signature=signature)
engine = enum(("raft", None))
block_id = fields(height=u64, term=u64, hash=hash_)
vote_statement = fields(network=hash_, engine=engine, term=u64, candidate=u32, voter=u32, last=block_id)
commit_statement = fields(network=hash_, engine=engine, view=u64, height=u64, hash=hash_, membership=u64)
certificate = fields(engine=engine, view=u64, height=u64, hash=hash_, membership=u64, signatures=listing(entry))
executed = fields(height=u64, state_digest=hash_, results_chain=hash_, state_root=hash_)
kind = enum(("opening", None), ("transactions", None), ("membership", None))
header = fields(
    version=u8, network=hash_, height=u64, term=u64, previous=hash_, kind=kind, body_root=hash_, item_count=u32,
    membership=u64, time=u64, proposer=u32, executed=executed, certificate=hash_, chain_root=hash_,
)
role = enum(("voter", None), ("learner", None))
node = fields(slot=u32, name=text, organisation=text, key=key, incarnation=nonce, address=text, role=role)
grant = enum(("everyone", None), ("role", text), ("organisation", text), ("member", text))
membership = fields(
    nodes=listing(node), outgoing=listing(node), organisations=listing(fields(name=text, key=key)),
    members=listing(fields(key=key, name=text, organisation=text, roles=listing(text))),
    namespaces=listing(fields(name=text, writers=listing(grant))),
    parameters=fields(max_lifetime_ms=u64, certificates=boolean, approvals=u32),
)
request = fields(
    network=hash_, nonce=nonce, expires_at=u64, expected_height=u64, expected_hash=hash_, membership=membership
)
signed_request = fields(request=request, approvals=listing(pair(text, signature)))
record = enum(
    ("genesis", fields(membership=membership)),
    ("joint", fields(membership=membership, request=signed_request)),
    ("final", fields(membership=membership, joint=u64, request=hash_, certificate=certificate)),
)
items = enum(("opening", listing(entry)), ("transactions", listing(blob)), ("membership", record))
body = fields(items=items, certificate=option(certificate))
block = fields(header=blob, signature=option(signature), body=blob)
reason = enum(
    ("expired", None), ("duplicate", None), ("expiry_too_far", None), ("unknown_member", None),
    ("not_permitted", u32), ("requirement_failed", u32),
)
outcome = enum(("applied", None), ("failed", reason))
stored_value = fields(version=version, value=blob)
results_record = fields(executed=executed, outcomes=listing(outcome))
header_record = fields(hash=hash_, signature=option(signature), header=blob)
frontier = fields(count=u64, peaks=listing(hash_))


# Encoders, for what an executing verifier has to make.


def put_number(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(out + bytes([number]))


def put_blob(data):
    return put_number(len(data)) + data


def put_version(at):
    return put_number(at[0]) + put_number(at[1])


REASONS = ("expired", "duplicate", "expiry_too_far", "unknown_member", "not_permitted", "requirement_failed")


def put_outcome(found):
    if found is None:
        return b"\0"
    name, at = found
    return b"\1" + put_number(REASONS.index(name)) + (b"" if at is None else put_number(at))


def put_executed(quadruple):
    return put_number(quadruple[0]) + b"".join(quadruple[1:])
