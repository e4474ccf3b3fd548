"""The endpoint of scripts/pipeline that takes the erasures of devices, as docs/erasure.md has it,
and its test."""

import collections
import http.server
import json
import threading
import urllib.error
import urllib.request
import uuid

PATH = "/erase"
# What the devices call this pipeline.
RECIPIENT = "pipeline"
MAX_BYTES = 4096
# A device asks again after a minute at most.
ERASE_SECONDS = 120
# Never uses a proxy: the endpoint is on this machine.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Refused(Exception):
    """A request that the endpoint does not carry out, with the status that it answers."""


class ErasureEndpoint:
    """Carries each request out before it answers, with `erase(key, identifier)`, which returns
    whether it could. So it has nothing to store, and nothing to repeat: no event that arrives
    later is stored, because the tables keep a digest.

    Like any such endpoint, it has no credentials: the identifier is what the caller has to know.
    """

    def __init__(self, erase, port=0):
        class Handler(http.server.BaseHTTPRequestHandler):
            # For a caller that sends nothing, in seconds.
            timeout = 10

            def do_POST(self):
                status, answer = 200, {}
                try:
                    key, identifier = parse(self.path, self.headers, self.rfile)
                    if not erase(key, identifier):
                        raise Refused(503)
                    answer = {"accepted": key}
                except Refused as refused:
                    status = refused.args[0]
                answer = json.dumps(answer).encode()
                self.send_response_only(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                """Logs neither the address nor the request."""

        # One request at a time, because the tables have one session.
        self.server = http.server.HTTPServer(("127.0.0.1", port), Handler)

    def url(self):
        return f"http://127.0.0.1:{self.server.server_port}{PATH}"

    def start(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


def parse(path, headers, body):
    """The key and the identifier of a request."""
    try:
        # Read even if the request is refused, or the connection would be reset.
        body = body.read(min(max(int(headers["content-length"]), 0), MAX_BYTES + 1))
        if path != PATH:
            raise Refused(404)
        if len(body) > MAX_BYTES:
            raise Refused(413)
        key = str(uuid.UUID(headers["idempotency-key"]))
        request = json.loads(body)
        recipient, identifier = request["recipient"], request["identifier"]
    except (KeyError, TypeError, ValueError):
        raise Refused(400) from None
    # Events without an account have an empty one.
    if recipient != RECIPIENT or not isinstance(identifier, str) or not identifier:
        raise Refused(422)
    return key, identifier


# A request, and the number of events before and after its erasure; None if there was an outage.
Asked = collections.namedtuple("Asked", "key identifier erased")


class RecordedErasures:
    """Erases, unless there is an outage, and remembers what was asked."""

    def __init__(self):
        self.store = None
        self.outages = 0
        self.asked = []

    def erase(self, key, identifier):
        erased = None
        if self.outages:
            self.outages -= 1
        else:
            erased = self.store.erase(identifier)
        self.asked.append(Asked(key, identifier, erased))
        return erased is not None


def check_erasures(devices, url, erasures, load_again):
    """Lets two devices opt out and erase, while the first request is answered with 503, and reads
    the topic again. Returns the numbers of events, and everything that is wrong."""
    store = erasures.store
    counts, before, uuids = store.counts(), dict(store.accounts()), store.uuids()
    forged = forge(url, next(iter(before)))
    erasures.outages = 1
    devices.opt_out()
    if not devices.end(ERASE_SECONDS):
        return {}, ["not every device that opted out has erased"]
    after = dict(store.accounts())
    load_again()
    counts_again, again, uuids_again = store.counts(), dict(store.accounts()), store.uuids()

    erased = devices.erasures.keys()
    others = {account: number for account, number in before.items() if account not in erased}
    uuids_of_others = uuids - {
        uid for uid, (account, *_) in devices.events.items() if account in erased}
    numbers, failures, keys = {}, [], set()
    for label, tries, receipt in [
        ("at once", 1, {"state": "done", "cause": None, "tries": 1}),
        ("after an answer of 503", 2, {"state": "pending", "cause": "unreachable", "tries": 1}),
    ]:
        for who in erased:
            requests = [asked for asked in erasures.asked if asked.identifier == who]
            if len(requests) == tries:
                break
        else:
            failures.append(f"no account was erased {label}")
            continue
        keys |= {request.key for request in requests}
        events, (said, stats) = before.get(who, 0), devices.erasures[who]
        numbers[f"events of an account erased {label}"] = (
            f"{events} before, {after.get(who, 0)} after,"
            f" {again.get(who, 0)} after the topic was read again")
        failures += [f"erased {label}: {failure}" for wrong, failure in [
            (not events, "there were no events"),
            (requests[-1].erased != (events, 0), "the endpoint has not deleted all events"),
            (who in after, "there are events afterwards"),
            (who in again, "there are events after the topic was read again"),
            (receipt.items() - said.items(), f"the receipt is {said}"),
            ((stats["pending"], stats["done"], stats["tries"]) != (0, 1, tries),
             f"the statistics are {stats}"),
        ] if wrong]
    return numbers, failures + [failure for wrong, failure in [
        (len(erasures.asked) != 3 or len(keys) != 2,
         "the endpoint got other requests than one under each key, and one again"),
        (forged, f"the endpoint has answered {forged} to malformed requests"),
        (after != others, "the erasures have changed the number of other events"),
        (again != others or uuids_again != uuids_of_others,
         "reading the topic again has changed other events"),
        (counts_again["received"] < 2 * counts["received"], "the topic was not read again"),
        (not counts_again["of-erased-accounts"], "no event of an erased account came again"),
    ] if wrong]


def forge(url, identifier):
    """Sends malformed requests for an account, and returns the wrong answers."""
    key, body = str(uuid.uuid4()), {"identifier": identifier, "recipient": RECIPIENT}
    wrong = []
    for status, path, key, body in [
        (404, "/another", key, body),
        (400, "", "no-uuid", body),
        (400, "", key, [identifier]),
        (400, "", key, {"recipient": RECIPIENT}),
        (422, "", key, body | {"identifier": ""}),
        (422, "", key, body | {"recipient": "another"}),
        (413, "", key, body | {"padding": "x" * MAX_BYTES}),
    ]:
        request = urllib.request.Request(
            url + path, json.dumps(body).encode(), {"idempotency-key": key})
        try:
            with DIRECT.open(request, timeout=10) as answer:
                wrong.append(answer.status)
        except urllib.error.HTTPError as error:
            wrong += [error.code] if error.code != status else []
    return wrong
