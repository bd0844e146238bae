// Whole stories of a client with end-to-end encryption, told by matrix-js-sdk with its Rust crypto.
// Each story is one line of JSON on standard output: {"story": …} and, if it did not end well, {"failure": …}.
//
//     node matrix_js_sdk_stories.js '{"homeserver": URL, "identityServer": URL, "inbox": URL}'

// The SDK logs to the console; standard output is for the stories.
console.log = console.info = console.debug = console.trace = console.warn = console.error = () => {};

import assert from "node:assert/strict";
import { webcrypto } from "node:crypto";

globalThis.crypto ??= webcrypto;

const sdk = await import("matrix-js-sdk");
const { ClientEvent, EventType, MatrixEventEvent, Preset, RoomEvent, SERVICE_TYPES, SyncState, Visibility } = sdk;
const { logger } = await import("matrix-js-sdk/lib/logger.js");
const { decodeRecoveryKey, VerificationPhase, VerifierEvent } = await import("matrix-js-sdk/lib/crypto-api/index.js");
logger.disableAll?.();

const { homeserver, identityServer, inbox } = JSON.parse(process.argv[2]);
const PASSWORD = "correct horse battery staple";
const PATIENCE_MS = 20_000;
const STORY_MS = 60_000;
const run = Date.now().toString(36);
let number = 0;

async function story(name, tell) {
    let outcome = {};
    const began = Date.now();
    try {
        await Promise.race([tell(), giveUp(name)]);
    } catch (error) {
        outcome = { failure: String(error?.stack ?? error), data: error?.data };
    }
    process.stdout.write(JSON.stringify({ story: name, took_ms: Date.now() - began, ...outcome }) + "\n");
}

/** So that a promise that is never kept costs its own story only, and is named. */
async function giveUp(name) {
    await new Promise((resolve) => setTimeout(resolve, STORY_MS).unref());
    throw new Error(`"${name}" did not end`);
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** What `holds` answers once that is true; it is asked again and again. */
async function until(holds, what) {
    const deadline = Date.now() + PATIENCE_MS;
    for (;;) {
        const result = await holds();
        if (result) return result;
        if (Date.now() > deadline) throw new Error(`${what} never came`);
        await sleep(50);
    }
}

const stop = [];

/** A client that syncs, with keys in memory. `person`: {userId} to log in again on another device. */
async function enter(name, { person, ...options } = {}) {
    const nobody = sdk.createClient({ baseUrl: homeserver });
    let userId = person?.userId;
    if (!userId) {
        const username = `${name}-${run}-${++number}`;
        let session;
        try {
            await nobody.registerRequest({ username, password: PASSWORD });
        } catch (error) {
            assert.equal(error.httpStatus, 401);
            session = error.data.session;
        }
        const auth = { type: "m.login.dummy", session };
        userId = (await nobody.registerRequest({ username, password: PASSWORD, auth, inhibit_login: true })).user_id;
    }
    const login = await nobody.loginRequest({
        type: "m.login.password",
        identifier: { type: "m.id.user", user: userId },
        password: PASSWORD,
        initial_device_display_name: `${name}'s client`,
    });
    const secrets = person?.secrets ?? {};
    const client = sdk.createClient({
        baseUrl: homeserver,
        idBaseUrl: identityServer,
        userId,
        deviceId: login.device_id,
        accessToken: login.access_token,
        timelineSupport: true,
        cryptoCallbacks: {
            getSecretStorageKey: async ({ keys }) => {
                const id = Object.keys(keys).find((id) => secrets[id]);
                return id ? [id, secrets[id]] : null;
            },
            cacheSecretStorageKey: (id, _info, key) => (secrets[id] = key),
        },
        identityServer: { getAccessToken: async () => client.identityToken },
        ...options,
    });
    client.secrets = secrets;
    await client.initRustCrypto({ useIndexedDB: false });
    await client.startClient({ lazyLoadMembers: true, initialSyncLimit: 10, pollTimeout: 5000, threadSupport: true });
    stop.push(client);
    await until(() => [SyncState.Prepared, SyncState.Syncing].includes(client.getSyncState()), "the first sync");
    return client;
}

const passwordAuth = (client) => async (makeRequest) => {
    const auth = {
        type: "m.login.password",
        identifier: { type: "m.id.user", user: client.getUserId() },
        password: PASSWORD,
    };
    try {
        return await makeRequest(null);
    } catch (error) {
        if (error.httpStatus !== 401) throw error;
        return await makeRequest({ ...auth, session: error.data.session });
    }
};

/** Alice makes a room and invites Bob, who joins; both know. */
async function room(alice, bob, options = {}) {
    const { room_id } = await alice.createRoom({ preset: Preset.PrivateChat, invite: [bob.getUserId()], ...options });
    await until(() => bob.getRoom(room_id)?.getMyMembership() === "invite", "the invitation");
    await bob.joinRoom(room_id);
    await until(() => bob.getRoom(room_id)?.getMyMembership() === "join", "the join");
    await until(() => alice.getRoom(room_id)?.getMember(bob.getUserId())?.membership === "join", "Bob's join");
    return room_id;
}

const ENCRYPTED = {
    initial_state: [{ type: "m.room.encryption", state_key: "", content: { algorithm: "m.megolm.v1.aes-sha2" } }],
};

const found = (client, roomId, eventId) => client.getRoom(roomId)?.findEventById(eventId);
const hears = (client, roomId, eventId) => until(() => found(client, roomId, eventId), `event ${eventId}`);

async function reads(client, roomId, eventId) {
    const event = await hears(client, roomId, eventId);
    await until(() => event.getClearContent()?.body, `the clear text of ${eventId}: ${event.decryptionFailureReason}`);
    return event;
}

const says = async (client, roomId, body) => (await client.sendTextMessage(roomId, body)).event_id;

/** The newest message to somebody that holds a link to confirm with, followed as a person would. */
async function followLink(recipient) {
    const answer = await fetch(`${inbox}/newest?recipient=${encodeURIComponent(recipient)}&holding=submit`);
    const { text } = await answer.json();
    const [link] = text.match(/https?:\/\/\S+submit_?[tT]oken\S+/);
    const page = await fetch(link);
    const html = await page.text();
    const form = html.match(/<form method="post" action="([^"]*)"/);
    if (!form) return;
    const decoded = (text) => text.replaceAll("&amp;", "&");
    const fields = [...html.matchAll(/<input type="hidden" name="([^"]*)" value="([^"]*)">/g)];
    await fetch(new URL(decoded(form[1]), link), {
        method: "POST",
        body: new URLSearchParams(fields.map(([, name, value]) => [name, decoded(value)])),
    });
}

async function identityAccount(client) {
    const { token } = await client.registerWithIdentityServer(await client.getOpenIdToken());
    client.identityToken = token;
    return token;
}

const alice = await enter("alice");
const bob = await enter("bob");

await story("a client starts", async () => {
    assert.ok((await alice.getVersions()).versions.includes("v1.11"));
    assert.ok(alice.pushRules.global.override.some((rule) => rule.rule_id === ".m.rule.master"));
    const capabilities = await alice.getCapabilities();
    assert.equal(capabilities["m.change_password"].enabled, true);
    assert.ok(capabilities["m.room_versions"].available["12"]);
    assert.equal((await alice.whoami()).user_id, alice.getUserId());
    const { devices } = await alice.getDevices();
    assert.ok(devices.some((device) => device.display_name === "alice's client"));
});

await story("two people talk, and page back through what was said", async () => {
    const roomId = await room(alice, bob, { name: "Garden", topic: "Roses" });
    const said = [];
    for (let word = 0; word < 35; word++) said.push(await says(alice, roomId, `Word ${word}`));
    await hears(bob, roomId, said.at(-1));
    const carol = await enter("carol", { person: { userId: bob.getUserId() } });
    const late = await until(() => carol.getRoom(roomId), "the room on another device");
    assert.equal(late.name, "Garden");
    assert.ok(late.getLiveTimeline().getEvents().length <= 11);
    for (let page = 0; page < 20 && late.oldState.paginationToken !== null; page++) await carol.scrollback(late, 12);
    const bodies = late.getLiveTimeline().getEvents().map((event) => event.getContent().body).filter(Boolean);
    assert.deepEqual(bodies, [...Array(35).keys()].map((word) => `Word ${word}`));
    assert.equal(late.getLiveTimeline().getEvents()[0].getType(), "m.room.create");
    const around = await carol.getEventTimeline(late.getUnfilteredTimelineSet(), said[7]);
    assert.ok(around.getEvents().some((event) => event.getId() === said[7]));
    carol.stopClient();
});

await story("typing, reading, reactions, edits and redactions are seen", async () => {
    const roomId = await room(alice, bob);
    await alice.sendTyping(roomId, true, 20_000);
    await until(() => bob.getRoom(roomId).getMember(alice.getUserId()).typing, "typing");
    await alice.sendTyping(roomId, false, 0);
    await until(() => !bob.getRoom(roomId).getMember(alice.getUserId()).typing, "no typing");

    const first = await says(alice, roomId, "Helo");
    const heard = await hears(bob, roomId, first);
    assert.equal(bob.getRoom(roomId).getUnreadNotificationCount("total"), 1);
    await bob.sendReadReceipt(heard);
    await until(() => alice.getRoom(roomId).hasUserReadEvent(bob.getUserId(), first), "the receipt");
    await until(() => bob.getRoom(roomId).getUnreadNotificationCount("total") === 0, "nothing unread");

    await bob.sendEvent(roomId, EventType.Reaction, {
        "m.relates_to": { rel_type: "m.annotation", event_id: first, key: "👋" },
    });
    await alice.sendMessage(roomId, {
        "msgtype": "m.text",
        "body": "* Hello",
        "m.new_content": { msgtype: "m.text", body: "Hello" },
        "m.relates_to": { rel_type: "m.replace", event_id: first },
    });
    await until(() => found(bob, roomId, first).getContent().body === "Hello", "the edit");
    const relations = await bob.relations(roomId, first, "m.annotation", EventType.Reaction);
    assert.equal(relations.events[0].getRelation().key, "👋");

    const reply = await alice.sendMessage(roomId, {
        "msgtype": "m.text",
        "body": "In a thread",
        "m.relates_to": { rel_type: "m.thread", event_id: first },
    });
    const thread = await until(() => bob.getRoom(roomId).getThread(first), "the thread");
    await until(() => thread.replyToEvent?.getId() === reply.event_id, "the reply in the thread");

    const slip = await says(alice, roomId, "My password");
    const seen = await hears(bob, roomId, slip);
    await alice.redactEvent(roomId, slip, undefined, { reason: "slip" });
    await until(() => seen.isRedacted(), "the redaction");
    assert.equal(seen.getUnsigned().redacted_because.content.reason, "slip");
});

await story("members are loaded when they are needed", async () => {
    // It has a name, so that nobody has to be known for one to be made up.
    const roomId = await room(alice, bob, { preset: Preset.PublicChat, name: "Crowd" });
    const others = [];
    for (const name of ["dora", "emil", "fred"]) {
        const { user_id, access_token } = await registered(name);
        const other = sdk.createClient({ baseUrl: homeserver, userId: user_id, accessToken: access_token });
        await other.joinRoom(roomId);
        others.push(user_id);
    }
    for (let word = 0; word < 12; word++) await says(alice, roomId, `Word ${word}`);
    const lazy = await enter("bob", { person: { userId: bob.getUserId() } });
    const shown = await until(() => lazy.getRoom(roomId), "the room");
    assert.equal(shown.getJoinedMemberCount(), 5);
    assert.ok(shown.getMember(alice.getUserId()), "who speaks is known");
    assert.ok(!others.every((userId) => shown.getMember(userId)), "who does not is not, yet");
    await shown.loadMembersIfNeeded();
    for (const userId of others) assert.equal(shown.getMember(userId).membership, "join");
    lazy.stopClient();
});

async function registered(name) {
    const nobody = sdk.createClient({ baseUrl: homeserver });
    const username = `${name}-${run}-${++number}`;
    const session = await nobody.registerRequest({ username, password: PASSWORD }).catch((e) => e.data.session);
    return nobody.registerRequest({ username, password: PASSWORD, auth: { type: "m.login.dummy", session } });
}

await story("profiles, account data, tags, presence and files", async () => {
    const roomId = await room(alice, bob);
    await alice.setDisplayName("Alice Liddell");
    await until(() => bob.getRoom(roomId).getMember(alice.getUserId()).name === "Alice Liddell", "her name");
    assert.equal((await bob.getProfileInfo(alice.getUserId())).displayname, "Alice Liddell");

    await alice.setAccountData("org.example.colour", { favourite: "white" });
    await until(() => alice.getAccountData("org.example.colour")?.getContent().favourite === "white", "account data");
    await alice.setRoomAccountData(roomId, "org.example.note", { text: "nice" });
    await until(() => alice.getRoom(roomId).getAccountData("org.example.note"), "account data of the room");
    await alice.setRoomTag(roomId, "m.favourite", { order: 0.5 });
    await until(() => alice.getRoom(roomId).tags["m.favourite"]?.order === 0.5, "the tag");

    await alice.setPresence({ presence: "online", status_msg: "in the garden" });
    await until(() => bob.getUser(alice.getUserId())?.presenceStatusMsg === "in the garden", "presence");

    const { content_uri } = await alice.uploadContent(new Blob(["white roses"], { type: "text/plain" }), { name: "a.txt" });
    const url = bob.mxcUrlToHttp(content_uri, undefined, undefined, undefined, false, true, true);
    const file = await fetch(url, { headers: { Authorization: `Bearer ${bob.getAccessToken()}` } });
    assert.equal(await file.text(), "white roses");
    assert.ok((await bob.getMediaConfig())["m.upload.size"] > 1000);

    const listed = await bob.searchUserDirectory({ term: "Alice Liddell" });
    assert.ok(listed.results.some((user) => user.user_id === alice.getUserId()));
});

await story("a public room is listed, joined by alias, searched and left", async () => {
    const local = `roses-${run}`;
    const { room_id } = await alice.createRoom({
        preset: Preset.PublicChat,
        visibility: Visibility.Public,
        room_alias_name: local,
        name: `Roses ${run}`,
    });
    const alias = `#${local}:${alice.getDomain()}`;
    assert.equal((await bob.getRoomIdForAlias(alias)).room_id, room_id);
    const listed = await bob.publicRooms({ filter: { generic_search_term: run } });
    assert.ok(listed.chunk.some((entry) => entry.room_id === room_id));
    const word = await says(alice, room_id, "chrysanthemum");
    assert.equal((await bob.joinRoom(alias)).roomId, room_id);
    await hears(bob, room_id, word);
    const results = await bob.searchRoomEvents({ term: "chrysanthemum" });
    assert.equal(results.count, 1);
    await bob.leave(room_id);
    await until(() => bob.getRoom(room_id).getMyMembership() === "leave", "leaving");
    await bob.forget(room_id);
});

await story("a device is signed out with the password", async () => {
    const tablet = await registered("gwen");
    const gwen = sdk.createClient({ baseUrl: homeserver, userId: tablet.user_id, accessToken: tablet.access_token });
    const second = await gwen.loginRequest({
        type: "m.login.password",
        identifier: { type: "m.id.user", user: tablet.user_id },
        password: PASSWORD,
    });
    await passwordAuth(gwen)((auth) => gwen.deleteDevice(second.device_id, auth ?? undefined));
    const { devices } = await gwen.getDevices();
    assert.deepEqual(devices.map((device) => device.device_id), [tablet.device_id]);
});

let secretRoom, secretWord;
// The SDK refers to these weakly: what only awaits one another is collected with them, and then never ends.
const underWay = [];

await story("cross-signing, secret storage and key backup are set up", async () => {
    for (const client of [alice, bob]) {
        const crypto = client.getCrypto();
        await crypto.bootstrapCrossSigning({ authUploadDeviceSigningKeys: passwordAuth(client) });
        assert.equal(await crypto.isCrossSigningReady(), true);
    }
    const crypto = alice.getCrypto();
    await crypto.bootstrapSecretStorage({
        createSecretStorageKey: () => crypto.createRecoveryKeyFromPassphrase(),
        setupNewKeyBackup: true,
    });
    assert.equal(await crypto.isSecretStorageReady(), true);
    const check = await crypto.checkKeyBackupAndEnable();
    assert.equal(check.trustInfo.matchesDecryptionKey, true);
});

await story("two people verify each other and read each other's encrypted messages", async () => {
    secretRoom = await room(alice, bob, ENCRYPTED);
    await until(() => alice.getCrypto().isEncryptionEnabledInRoom(secretRoom), "encryption");
    await until(() => bob.getCrypto().isEncryptionEnabledInRoom(secretRoom), "encryption");
    const early = await says(alice, secretRoom, "Not verified yet");
    await reads(bob, secretRoom, early);

    await alice.getCrypto().userHasCrossSigningKeys(bob.getUserId(), true);
    const asked = await alice.getCrypto().requestVerificationDM(bob.getUserId(), secretRoom);
    const received = await until(
        () => bob.getCrypto().findVerificationRequestDMInProgress(secretRoom, alice.getUserId()),
        "the request",
    );
    await received.accept();
    await until(() => asked.phase === VerificationPhase.Ready, "his consent");
    const hers = await asked.startVerification("m.sas.v1");
    const his = await until(() => received.verifier, "the start");
    underWay.push(asked, received, hers, his);
    const shown = [hers, his].map((verifier) => new Promise((show) => verifier.once(VerifierEvent.ShowSas, show)));
    const done = Promise.all([hers.verify(), his.verify()]);
    const [herSas, hisSas] = await Promise.all(shown);
    assert.deepEqual(herSas.sas.emoji, hisSas.sas.emoji);
    await Promise.all([herSas.confirm(), hisSas.confirm()]);
    await done;
    for (const [one, other] of [[alice, bob], [bob, alice]]) {
        await until(
            async () => (await one.getCrypto().getUserVerificationStatus(other.getUserId())).isCrossSigningVerified(),
            "that the other is verified",
        );
    }
    for (const [one, other] of [[alice, bob], [bob, alice]]) {
        secretWord = await says(one, secretRoom, `Psst, says ${one.getUserId()}`);
        const event = await reads(other, secretRoom, secretWord);
        assert.equal(event.getWireType(), "m.room.encrypted");
        assert.equal(event.getClearContent().body, `Psst, says ${one.getUserId()}`);
        const { shieldColour } = await other.getCrypto().getEncryptionInfoForEvent(event);
        assert.equal(shieldColour, 0, "a shield would mean that it is not from a verified device");
    }
});

await story("a new device restores the keys from the backup", async () => {
    await until(async () => {
        const { backupInfo } = await alice.getCrypto().checkKeyBackupAndEnable();
        return backupInfo.count >= 2;
    }, "the keys in the backup");
    const phone = await enter("alice", { person: { userId: alice.getUserId(), secrets: alice.secrets } });
    await phone.getCrypto().userHasCrossSigningKeys(alice.getUserId(), true);
    await phone.getCrypto().bootstrapCrossSigning({});
    await until(() => phone.getCrypto().isCrossSigningReady(), "cross-signing on the phone");
    await phone.getCrypto().loadSessionBackupPrivateKeyFromSecretStorage();
    const restored = await phone.getCrypto().restoreKeyBackup();
    assert.ok(restored.imported >= 2, JSON.stringify(restored));
    const event = await reads(phone, secretRoom, secretWord);
    assert.equal(event.getClearContent().body, `Psst, says ${bob.getUserId()}`);
    const device = await until(async () => {
        const devices = await bob.getCrypto().getUserDeviceInfo([alice.getUserId()], true);
        return devices.get(alice.getUserId())?.get(phone.getDeviceId());
    }, "Alice's phone at Bob's");
    assert.ok(device);
    await until(
        async () =>
            (await bob.getCrypto().getDeviceVerificationStatus(alice.getUserId(), phone.getDeviceId()))
                ?.crossSigningVerified,
        "that the phone is signed by its owner",
    );
    const word = await says(bob, secretRoom, "To both of you");
    await reads(phone, secretRoom, word);
    await reads(alice, secretRoom, word);
    phone.stopClient();
});

const address = `alice-${run}@example.org`;

await story("an email address is added to the account, bound, found, and removed again", async () => {
    const secret = alice.generateClientSecret();
    const { sid } = await alice.requestAdd3pidEmailToken(address, secret, 1);
    await followLink(address);
    await passwordAuth(alice)((auth) => alice.addThreePidOnly({ sid, client_secret: secret, auth: auth ?? undefined }));
    const { threepids } = await alice.getThreePids();
    assert.deepEqual(threepids.map(({ medium, address }) => [medium, address]), [["email", address]]);

    const token = await identityAccount(alice);
    const second = alice.generateClientSecret();
    const session = await alice.requestEmailToken(address, second, 1, undefined, token);
    await until(async () => {
        await followLink(address);
        return (await validated(session.sid, second, token)).medium === "email";
    }, "the proof");
    await alice.bindThreePid({
        sid: session.sid,
        client_secret: second,
        id_server: new URL(identityServer).host,
        id_access_token: token,
    });
    const bobs = await identityAccount(bob);
    assert.equal((await bob.lookupThreePid("email", address, bobs)).mxid, alice.getUserId());

    const login = await sdk.createClient({ baseUrl: homeserver }).loginRequest({
        type: "m.login.password",
        identifier: { type: "m.id.thirdparty", medium: "email", address },
        password: PASSWORD,
    });
    assert.equal(login.user_id, alice.getUserId());

    const removed = await alice.unbindThreePid("email", address);
    assert.equal(removed.id_server_unbind_result, "success");
    assert.deepEqual(await bob.lookupThreePid("email", address, bobs), {});
    await alice.deleteThreePid("email", address);
    assert.deepEqual((await alice.getThreePids()).threepids, []);
});

async function validated(sid, client_secret, token) {
    const query = new URLSearchParams({ sid, client_secret });
    const answer = await fetch(`${identityServer}/_matrix/identity/v2/3pid/getValidated3pid?${query}`, {
        headers: { Authorization: `Bearer ${token}` },
    });
    return answer.json();
}

await story("one invited by email is in the room after binding the address", async () => {
    const { room_id } = await alice.createRoom({ preset: Preset.PrivateChat, name: "By post" });
    const mail = `bob-${run}@example.org`;
    await identityAccount(alice);
    await alice.inviteByThreePid(room_id, "email", mail);
    const invitation = await until(
        () => alice.getRoom(room_id)?.currentState.getStateEvents("m.room.third_party_invite")[0],
        "the invitation in the room",
    );
    assert.ok(!JSON.stringify(invitation.getContent()).includes(mail));

    const token = await identityAccount(bob);
    const secret = bob.generateClientSecret();
    const { sid } = await bob.requestEmailToken(mail, secret, 1, undefined, token);
    await followLink(mail);
    await bob.bindThreePid({
        sid,
        client_secret: secret,
        id_server: new URL(identityServer).host,
        id_access_token: token,
    });
    await until(() => bob.getRoom(room_id)?.getMyMembership() === "invite", "the invitation");
    await bob.joinRoom(room_id);
    await hears(alice, room_id, await says(bob, room_id, "Got your letter"));
    assert.ok(alice.getRoom(room_id).getMember(bob.getUserId()).membership === "join");
});

for (const client of stop) client.stopClient();
process.exit(0);
