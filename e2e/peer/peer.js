// A client that is not ours: it treats the analytics event as Element Web does, over
// matrix-js-sdk. One JSON command a line comes in by standard input, and one JSON answer
// goes out for each, in the order in which they are done.
//
// What it shares with Element Web, faults included, because ours has to live with them:
// - it reads the event from what sync last showed, never from the homeserver;
// - a switch of the flag is merged into that, and may restore what another client removed;
// - a yes without an ID makes it mint one, in hex without padding, and write it;
// - it looks whether it may identify before it waits, and not after.

import { createInterface } from "node:readline";

// The SDK talks to the console; standard output is for answers alone.
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
        // The IDs that it made, what it does by itself, and what went wrong in that.
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

    // Only a boolean decides anything.
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
        // With nothing there the SDK would wait for an event that no server sends.
        if (Object.keys(this.content()).length > 0) {
            await this.client.deleteAccountData(this.eventType);
        }
    }

    // Waits until sync has come as far as this fence.
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

    // What it does by itself, without a command.
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

// 16 random bytes in hex; Element Web pads none of them.
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
    // Not awaited: while one command waits, the next may begin.
    answer(line).then((done) => process.stdout.write(`${JSON.stringify(done)}\n`));
}
peer?.client.stopClient();
process.exit(0);
