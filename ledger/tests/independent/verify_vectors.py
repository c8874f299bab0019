"""An independent verifier of the format, written from FORMAT.md alone: reads vectors.json, judges its chain by section
12, executes it by section 9, rebuilds every derived record of the store by section 10, and compares.

    python3 ledger/tests/independent/verify_vectors.py [vectors.json]

Exit code 0 where all agree. Standard library only."""

import json
import struct
import sys
from pathlib import Path

import encoding as e
from primitives import derive, verify

H = lambda use, data, length=32: derive("quipu v1 " + use, data, length)
ZERO = bytes(32)


def same(found, expected, what):
    if found != expected:
        shown = [value.hex() if isinstance(value, bytes) else value for value in (found, expected)]
        raise SystemExit(f"{what}: {shown[0]} is not {shown[1]}")


def le64(number):
    return struct.pack("<Q", number)


def root(leaves):
    if not leaves:
        return H("merkle empty", b"")
    if len(leaves) == 1:
        return leaves[0]
    left = 1 << ((len(leaves) - 1).bit_length() - 1)
    return H("merkle node", root(leaves[:left]) + root(leaves[left:]))


def bind(use, leaves):
    return H(use, le64(len(leaves)) + root(leaves))


def peaks(leaves):
    found, start = [], 0
    for bit in reversed(range(64)):
        if len(leaves) >> bit & 1:
            found.append(root(leaves[start : start + (1 << bit)]))
            start += 1 << bit
    return found


def check_hashes(vectors):
    for vector in vectors["hashes"]["contexts"]:
        for name, data in (("empty", b""), ("quipu", b"quipu")):
            same(derive(vector["context"], data).hex(), vector[name], vector["context"])
    for vector in vectors["hashes"]["merkle"]:
        leaves = [bytes.fromhex(leaf) for leaf in vector["leaves"]]
        same(root(leaves).hex(), vector["root"], "Merkle root")
        same(bind("chain root", leaves).hex(), vector["chain_root"], "chain root")
        frontier = e.decode(e.frontier, bytes.fromhex(vector["frontier"]))
        same((frontier["count"], frontier["peaks"]), (len(leaves), peaks(leaves)), "frontier")
    for vector in vectors["keys"]:
        public, message, signature = (bytes.fromhex(vector[name]) for name in ("public", "message", "signature"))
        same(verify(public, message, signature), True, vector["name"])
        same(verify(public, message[::-1], signature), False, vector["name"])


def majority(membership, entries, statement):
    """Section 3."""
    order = [(entry["slot"], entry["outgoing"]) for entry in entries]
    same(order, sorted(set(order)), "order of signature entries")
    incoming = {node["slot"]: node["key"] for node in membership["nodes"] if node["role"][0] == "voter"}
    outgoing = {node["slot"]: node["key"] for node in membership["outgoing"]}
    made = set()
    for entry in entries:
        slot = entry["slot"]
        key = (outgoing if entry["outgoing"] else incoming)[slot]
        same(entry["outgoing"] and incoming.get(slot) == key, False, "entry marked as outgoing")
        same(verify(key, statement(slot), entry["signature"]), True, f"signature of slot {slot}")
        made.add((slot, key))
    for voters in filter(None, (incoming, outgoing)):
        signed = sum((slot, key) in made for slot, key in voters.items())
        same(2 * signed > len(voters), True, "majority")


def check_certificate(certificate, network, header, block_hash, membership):
    named = (certificate["height"], certificate["hash"], certificate["membership"], certificate["view"])
    same(named, (header["height"], block_hash, header["membership"], header["term"]), "what a certificate certifies")
    numbers = e.put_number
    statement = network + numbers(0) + numbers(certificate["view"]) + numbers(certificate["height"])
    statement += certificate["hash"] + numbers(certificate["membership"])
    e.decode(e.commit_statement, statement)
    majority(membership, certificate["signatures"], lambda _: H("commit", statement))


class Chain:
    """The chain so far: headers with their hashes, and the state that follows."""

    def __init__(self):
        self.headers, self.hashes, self.leaves, self.memberships = [], [], [], {}
        self.state, self.recent, self.index, self.history = {}, {}, {}, {}
        self.results, self.link = [], ZERO

    def take(self, data):
        """Judges a block by section 12 and executes it."""
        travelling = e.decode(e.block, data)
        header, body = e.decode(e.header, travelling["header"]), e.decode(e.body, travelling["body"])
        block_hash = H("header", travelling["header"])
        transactions = self.check_body(header, body, travelling["body"])
        if header["height"] == 0:
            self.check_genesis(header, body, travelling["signature"])
        else:
            self.check_follows(header, body)
            signers = [node["key"] for node in self.in_force()["nodes"] if node["slot"] == header["proposer"]]
            same(verify(signers[0], block_hash, travelling["signature"]), True, "proposer's signature")
        self.headers.append(header)
        self.hashes.append(block_hash)
        self.leaves.append(H("chain leaf", block_hash))
        if header["kind"][0] == "membership":
            self.memberships[header["height"]] = body["items"][1][1]["membership"]
        self.execute(header, transactions)
        return header, body

    def in_force(self):
        return self.memberships[max(self.memberships)]

    def check_body(self, header, body, data):
        name, content = body["items"]
        same(name, header["kind"][0], "kind")
        if name == "transactions":
            leaves = [H("transaction leaf", signed) for signed in content]
        elif name == "opening":
            part = lambda entry: e.put_number(entry["slot"]) + bytes([entry["outgoing"]]) + entry["signature"]
            leaves = [H("vote leaf", part(entry)) for entry in content]
        else:
            leaves = [H("membership leaf", data[1:-1])]  # one record between the variant and an absent certificate
        same(header["item_count"], len(leaves), "item_count")
        same(header["body_root"], bind("body root", leaves), "body_root")
        self.item_leaves = leaves
        if name != "transactions":
            return []
        transactions = []
        for signed in content:
            transaction = e.decode(e.transaction_body, signed[:-64])
            transaction["id"] = H("transaction", signed[:-64])
            same(transaction["network"], header["network"], "network of a transaction")
            same(verify(transaction["sender"], transaction["id"], signed[-64:]), True, "sender's signature")
            transactions.append(transaction)
        return transactions

    def check_genesis(self, header, body, signature):
        zeros = [header[name] for name in ("term", "membership", "proposer")]
        same(zeros + [header["previous"], header["certificate"], signature], [0, 0, 0, ZERO, ZERO, None], "block 0")
        same(header["chain_root"], bind("chain root", []), "chain_root of block 0")
        same(body["items"][1][0], "genesis", "record of block 0")

    def check_follows(self, header, body):
        parent, opening = self.headers[-1], header["kind"][0] == "opening"
        same(header["network"], parent["network"], "network")
        same(header["height"], parent["height"] + 1, "height")
        same(header["previous"], self.hashes[-1], "previous")
        same(header["time"] >= parent["time"], True, "time")
        same(header["chain_root"], bind("chain root", self.leaves), "chain_root")
        if opening:
            same(header["term"] > parent["term"], True, "term")
        else:
            same((header["term"], header["proposer"]), (parent["term"], parent["proposer"]), "term and proposer")
        same(header["membership"], max(self.memberships), "membership")
        named, before = header["executed"], parent["executed"]
        same(before["height"] <= named["height"] < header["height"], True, "executed height")
        same(tuple(named.values()), self.results[named["height"]][0], "executed")
        certificate = body["certificate"]
        if certificate is None:
            same(header["certificate"], ZERO, "certificate")
        else:
            of = certificate["height"]
            membership = self.memberships[self.headers[of]["membership"]]
            check_certificate(certificate, header["network"], self.headers[of], self.hashes[of], membership)
        if opening:
            self.check_votes(header, parent, body["items"][1])

    def check_votes(self, header, parent, votes):
        same(header["proposer"] in [vote["slot"] for vote in votes], True, "own vote")
        last = e.put_number(parent["height"]) + e.put_number(parent["term"]) + self.hashes[-1]

        def statement(voter):
            numbers = [0, header["term"], header["proposer"], voter]
            return H("vote", header["network"] + b"".join(map(e.put_number, numbers)) + last)

        majority(self.in_force(), votes, statement)

    # Section 9.

    def execute(self, header, transactions):
        height, time = header["height"], header["time"]
        outcomes = []
        for position, transaction in enumerate(transactions):
            outcome = self.run(height, time, position, transaction)
            outcomes.append(outcome)
            identity = transaction["id"]
            if outcome is None or outcome[0] not in ("expired", "duplicate"):
                self.recent[identity] = transaction["expires_at"]
                self.index[identity] = (height, position)
            elif outcome[0] == "expired":
                self.index.setdefault(identity, (height, position))
        boundary = time // 10_000 * 10_000
        if height > 0 and boundary > self.headers[-2]["time"] // 10_000 * 10_000:
            self.recent = {identity: until for identity, until in self.recent.items() if until > boundary}
        self.result_bytes = [tx["id"] + e.put_outcome(outcome) for tx, outcome in zip(transactions, outcomes)]
        leaves = [H("result leaf", result) for result in self.result_bytes]
        self.link = H("results chain", self.link + le64(len(leaves)) + root(leaves))
        self.results.append(((height, self.digest(), self.link, ZERO), outcomes))

    def run(self, height, time, position, transaction):
        membership = self.in_force()
        if time >= transaction["expires_at"]:
            return "expired", None
        if transaction["id"] in self.recent:
            return "duplicate", None
        if transaction["expires_at"] > time + membership["parameters"]["max_lifetime_ms"]:
            return "expiry_too_far", None
        members = [member for member in membership["members"] if member["key"] == transaction["sender"]]
        if not members:
            return "unknown_member", None
        for number, (name, operation) in enumerate(transaction["operations"]):
            if not permitted(membership, members[0], name, operation["namespace"]):
                return "not_permitted", number
        state, written = dict(self.state), {}
        for number, (name, operation) in enumerate(transaction["operations"]):
            place = operation["namespace"].encode(), operation["key"]
            if name == "require":
                if not holds(operation["condition"], state.get(place)):
                    return "requirement_failed", number
            elif name == "put":
                state[place] = operation["value"], (height, position)
                written[place] = False, number
            else:
                state.pop(place, None)
                written[place] = True, number
        self.state = state
        for place, (deleted, number) in written.items():
            self.history[place, (height, position)] = bytes([deleted]) + e.put_number(number)
        return None

    def elements(self):
        return [
            e.put_blob(namespace) + e.put_blob(key) + e.put_blob(value) + e.put_version(version)
            for (namespace, key), (value, version) in self.state.items()
        ]

    def accumulator(self):
        lanes = [0] * 1024
        for element in self.elements():
            for lane, term in enumerate(struct.unpack("<1024H", H("state element", element, 2048))):
                lanes[lane] = (lanes[lane] + term) & 0xFFFF
        return struct.pack("<1024H", *lanes)

    def digest(self):
        return H("state digest", self.accumulator())

    # Section 10.

    def records(self):
        be64, be32 = (lambda number: struct.pack(">Q", number)), (lambda number: struct.pack(">I", number))
        short = lambda namespace: bytes([len(namespace)]) + namespace
        results = [
            (be64(done[0]), e.put_executed(done) + e.put_number(len(found)) + b"".join(map(e.put_outcome, found)))
            for done, found in self.results
        ]
        state = {
            short(namespace) + key: e.put_version(version) + e.put_blob(value)
            for (namespace, key), (value, version) in self.state.items()
        }
        history = {
            short(namespace) + struct.pack(">H", len(key)) + key + be64(height) + be32(position): value
            for ((namespace, key), (height, position)), value in self.history.items()
        }
        return {
            "results": dict(results),
            "state": state,
            "history": history,
            "transactions": {identity: e.put_version(at) for identity, at in self.index.items()},
            "recent": {be64(until) + identity: b"" for identity, until in self.recent.items()},
        }

    def meta(self):
        frontier = peaks(self.leaves)
        return {
            b"format": struct.pack(">I", 1),
            b"network": self.headers[0]["network"],
            b"executed": e.put_executed(self.results[-1][0]),
            b"lattice": self.accumulator(),
            b"frontier": e.put_number(len(self.leaves)) + e.put_number(len(frontier)) + b"".join(frontier),
        }


def permitted(membership, member, name, namespace):
    for rights in membership["namespaces"]:
        if rights["name"] == namespace:
            grants = {
                "everyone": lambda _: True,
                "role": lambda role: role in member["roles"],
                "organisation": lambda organisation: organisation == member["organisation"],
                "member": lambda one: one == member["name"],
            }
            return name == "require" or any(grants[grant](of) for grant, of in rights["writers"])
    return False


def holds(condition, found):
    name, wanted = condition
    if name in ("absent", "present"):
        return (found is None) == (name == "absent")
    return found is not None and wanted == (found[1] if name == "version" else found[0])


def check_chain(vectors):
    chain = Chain()
    for vector in vectors["blocks"]:
        header, body = chain.take(bytes.fromhex(vector["block"]))
        check_parts(vector, body)
        height = header["height"]
        same([leaf.hex() for leaf in chain.item_leaves], vector["leaves"], f"leaves of block {height}")
        same(chain.hashes[-1].hex(), vector["hash"], f"hash of block {height}")
        named = e.put_executed(tuple(header["executed"].values()))
        same(H("executed", named).hex(), vector["executed_hash"], f"quadruple of block {height}")
        done, expected = chain.results[-1][0], vectors["execution"]["heights"][height]
        same(done[1].hex(), expected["state_digest"], f"state digest of {height}")
        same(done[2].hex(), expected["results_chain"], f"results chain of {height}")
        same([r.hex() for r in chain.result_bytes], [r["result"] for r in expected["results"]], f"results of {height}")
        for result, shown in zip(chain.result_bytes, expected["results"], strict=True):
            same(H("result leaf", result).hex(), shown["leaf"], "result leaf")
        if body["certificate"] is not None:
            statement = bytes.fromhex(vectors["certificate"]["statement"])
            same(e.decode(e.commit_statement, statement)["hash"], body["certificate"]["hash"], "commit statement")
            same(H("commit", statement).hex(), vectors["certificate"]["statement_hash"], "commit statement")
            data = bytes.fromhex(vectors["certificate"]["certificate"])
            same(e.decode(e.certificate, data), body["certificate"], "certificate")
            same(H("certificate", data), header["certificate"], "certificate digest")
    same(sorted(map(bytes.hex, chain.elements())), sorted(vectors["execution"]["elements"]), "elements of the state")
    same(chain.accumulator().hex(), vectors["execution"]["accumulator"], "accumulator")
    return chain


def check_parts(vector, body):
    """The parts of a block that the vectors show one by one."""
    travelling = e.decode(e.block, bytes.fromhex(vector["block"]))
    for name in ("header", "signature", "body"):
        same(travelling[name] and travelling[name].hex(), vector[name], name)
    header = e.decode(e.header, travelling["header"])
    for name in ("body_root", "chain_root"):
        same(header[name].hex(), vector[name], name)
    signed = body["items"][1] if vector["transactions"] else []
    for data, shown in zip(signed, vector["transactions"], strict=True):
        transaction = e.decode(e.transaction_body, data[:-64])
        same((data.hex(), data[-64:].hex()), (shown["bytes"], shown["signature"]), "signed transaction")
        same(H("transaction", data[:-64]).hex(), shown["id"], "id")
        for name in ("sender", "nonce"):
            same(transaction[name].hex(), shown[name], name)
        same(str(transaction["expires_at"]), shown["expires_at"], "expires_at")
        operations = [e.decode(e.operation, bytes.fromhex(operation)) for operation in shown["operations"]]
        same(operations, transaction["operations"], "operations")


def check_store(vectors, chain):
    stored = {
        family: {bytes.fromhex(key): bytes.fromhex(value) for key, value in records}
        for family, records in vectors["store"].items()
    }
    for family, records in chain.records().items():
        same(stored[family], records, f"family {family}")
    for key, value in chain.meta().items():
        same(stored["meta"][key], value, f"meta/{key.decode()}")
    for number, vector in enumerate(vectors["blocks"]):
        key = struct.pack(">Q", number)
        block = e.decode(e.block, bytes.fromhex(vector["block"]))
        same(stored["bodies"][key], block["body"], "stored body")
        record = {"hash": chain.hashes[number], "signature": block["signature"], "header": block["header"]}
        same(e.decode(e.header_record, stored["headers"][key]), record, "stored header")


def check_rest(vectors):
    for vector in vectors["votes"]:
        statement = bytes.fromhex(vector["statement"])
        e.decode(e.vote_statement, statement)
        same(H("vote", statement).hex(), vector["hash"], "vote")
        same(vector["entry"] in vectors["blocks"][4]["body"], True, "vote in the opening block")
    change = {name: bytes.fromhex(value) for name, value in vectors["change"].items()}
    request = e.decode(e.request, change["request"])
    same(H("membership request", change["request"]), change["request_hash"], "request")
    joint = e.decode(e.record, change["joint"])[1]
    same(joint["request"]["request"], request, "request in Joint")
    keys = {one["name"]: one["key"] for one in joint["membership"]["organisations"]}
    for organisation, signature in joint["request"]["approvals"]:
        same(verify(keys[organisation], change["request_hash"], signature), True, f"approval of {organisation}")
    final = e.decode(e.record, change["final"])[1]
    same(final["membership"], {**joint["membership"], "outgoing": []}, "membership in Final")
    for vector in vectors["refused"]:
        try:
            e.decode(e.header, bytes.fromhex(vector["header"]))
        except e.Refused:
            continue
        raise SystemExit(f"{vector['what']} was not refused")


def main():
    default = Path(__file__).parents[2] / "vectors.json"
    vectors = json.loads(Path(sys.argv[1] if len(sys.argv) > 1 else default).read_text())
    check_hashes(vectors)
    check_store(vectors, check_chain(vectors))
    check_rest(vectors)
    print(f"{len(vectors['blocks'])} blocks and all that follows from them agree")


if __name__ == "__main__":
    main()
