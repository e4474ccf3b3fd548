// A client over matrix-js-sdk that treats the analytics event as Element Web does. It reads one
// JSON command per line from standard input, and writes one JSON answer per command, in the order
// of completion.
//
// It shares these traits with Element Web, faults included, because our crate has to live with
// them:
// - it reads the event from the last sync, never from the homeserver;
// - it merges a change of the flag into that content, which may restore members that another client
//   removed;
// - on an opt-in without an ID, it creates one, in hex without padding, and writes it;
// - it checks whether it may identify before it waits, and not afterwards.

import { createInterface } from "node:readline";

// The SDK logs to the console; standard output is for answers only.
for (const method of ["debug", "info", "log", "trace", "warn"]) {
    console[method] = () => {};
}
const { ClientEvent, SyncState, createClient } = await import("matrix-js-sdk");

const FLAG = "pseudonymousAnalyticsOptIn";

class Peer {
    constructor({ url, userId, deviceId, accessToken, eventType, fenceType }) {
        this.eventType = eventType;
        this.fenceType = fenceType;
        // Whether events are sent, and the ID that they are sent under.
        this.enabled = false;
        this.id = null;
        // The IDs created, the number of operations begun on its own, and their failures.
        this.minted = [];
        this.pending = 0;
        this.failures = [];
        this.client = createClient({ baseUrl: url, userId, deviceId, accessToken });
        this.client.on(ClientEvent.AccountData, (event, before) => this.onAccountData(event, before));
    }

    async start() {
        const ready = new Promise((resolve) => {
            const onSync = (state) => {
                if (state === SyncState.Prepared || state === SyncState.Syncing) {
                    this.client.off(ClientEvent.Sync, onSync);
                    resolve();
                }
            };
            this.client.on(ClientEvent.Sync, onSync);
        });
        await this.client.startClient({ initialSyncLimit: 1 });
        await ready;
        await this.applyFlag();
    }

    content() {
        return this.client.getAccountData(this.eventType)?.getContent() ?? {};
    }

    // Only a boolean counts as a decision.
    flag() {
        const flag = this.content()[FLAG];
        return typeof flag === "boolean" ? flag : null;
    }

    onAccountData(event, before) {
        if (event.getType() !== this.eventType) {
            return;
        }
        const [now, then] = [event.getContent(), before?.getContent() ?? {}];
        if (now[FLAG] !== then[FLAG] || now.id !== then.id) {
            this.track(this.applyFlag());
        }
    }

    async applyFlag() {
        this.enabled = this.flag() === true;
        if (this.enabled) {
            await this.identify();
        } else {
            this.id = null;
        }
    }

    async identify() {
        const content = await this.client.getAccountDataFromServer(this.eventType);
        let id = content?.id;
        if (!id) {
            id = mintId();
            this.minted.push(id);
            await this.client.setAccountData(this.eventType, { id, ...content });
        }
        this.id = id;
    }

    async setFlag(value) {
        await this.client.setAccountData(this.eventType, { ...this.content(), [FLAG]: value });
    }

    async erase() {
        // Without an existing event, the SDK would wait for one that no server sends.
        if (Object.keys(this.content()).length > 0) {
            await this.client.deleteAccountData(this.eventType);
        }
    }

    // Waits until sync has reached this fence.
    async fence(number) {
        const reached = () =>
            this.client.getAccountData(this.fenceType)?.getContent().number >= number;
        if (!reached()) {
            await new Promise((resolve) => {
                const onAccountData = () => {
                    if (reached()) {
                        this.client.off(ClientEvent.AccountData, onAccountData);
                        resolve();
                    }
                };
                this.client.on(ClientEvent.AccountData, onAccountData);
            });
        }
    }

    // An operation that it begins on its own, without a command.
    track(work) {
        this.pending += 1;
        work.catch((error) => this.failures.push(String(error))).finally(() => (this.pending -= 1));
    }

    state() {
        const { minted, pending, failures } = this;
        const sendsUnder = this.enabled ? this.id : null;
        return { flag: this.flag(), heldId: this.content().id ?? null, sendsUnder, minted, pending, failures };
    }
}

// 16 random bytes in hex; Element Web does not pad them.
function mintId() {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    return [...bytes].map((byte) => byte.toString(16)).join("");
}

let peer = null;

const commands = {
    start: async (options) => {
        peer = new Peer(options);
        await peer.start();
    },
    setFlag: ({ value }) => peer.setFlag(value),
    erase: () => peer.erase(),
    fence: ({ reach }) => peer.fence(reach),
    state: () => peer.state(),
};

async function answer(line) {
    const { command, number, ...options } = JSON.parse(line);
    try {
        const result = await commands[command](options);
        return { number, result: result ?? null };
    } catch (error) {
        return { number, error: String(error) };
    }
}

const lines = createInterface({ input: process.stdin });
for await (const line of lines) {
    // Not awaited, so that other commands can begin meanwhile.
    answer(line).then((done) => process.stdout.write(`${JSON.stringify(done)}\n`));
}
peer?.client.stopClient();
process.exit(0);
