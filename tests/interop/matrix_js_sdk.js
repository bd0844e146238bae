// What a client does with an identity server, from registering to logging out, done by matrix-js-sdk.
// Each step is one line of JSON on standard output: {"step": …, "result": …} or {"step": …, "error": [status, errcode]}.
//
//     node matrix_js_sdk.js '{"homeserver": URL, "identityServer": URL, "inbox": URL}'

// The SDK logs to the console; standard output is for the steps.
console.log = console.info = console.debug = console.trace = console.warn = console.error;

const { AutoDiscovery, SERVICE_TYPES, createClient } = await import("matrix-js-sdk");

const { homeserver, identityServer, inbox } = JSON.parse(process.argv[2]);
const V2 = `${identityServer}/_matrix/identity/v2`;

const MAIL = "Alice@Example.org";
const SHARP_S = "Max.Strauß@Example.org";
const PHONE = "447700900001";

/** Does one step and says what came of it, as `shown`; a refusal is an outcome too. */
async function step(name, act, shown = (result) => result) {
    let result, outcome;
    try {
        result = await act();
        outcome = { result: shown(result) };
    } catch (error) {
        if (error.errcode === undefined) throw error;
        outcome = { error: [error.httpStatus, error.errcode] };
    }
    process.stdout.write(JSON.stringify({ step: name, ...outcome }) + "\n");
    return result;
}

/** A request that the SDK has no function for. */
async function post(url, body, token) {
    const headers = { "Content-Type": "application/json", ...(token && { Authorization: `Bearer ${token}` }) };
    const answer = await fetch(url, { method: "POST", headers, body: JSON.stringify(body) });
    return { status: answer.status, body: await answer.json() };
}

/** The newest message to somebody; the inbox answers when there is one. */
async function message(recipient) {
    const answer = await fetch(`${inbox}/newest?recipient=${encodeURIComponent(recipient)}`);
    return (await answer.json()).text;
}

/** What a person does with the mail: opens the link, reads the page, presses the button. */
async function followLink(recipient) {
    const [link] = (await message(recipient)).match(/https?:\/\/\S+submitToken\S+/);
    const page = await fetch(link);
    const html = await page.text();
    const decoded = (text) => text.replaceAll("&amp;", "&");
    const fields = [...html.matchAll(/<input type="hidden" name="([^"]*)" value="([^"]*)">/g)];
    const action = new URL(decoded(html.match(/<form method="post" action="([^"]*)"/)[1]), link);
    const clicked = await fetch(action, {
        method: "POST",
        body: new URLSearchParams(fields.map(([, name, value]) => [name, decoded(value)])),
        redirect: "manual",
    });
    return { page: page.status, clicked: clicked.status, location: clicked.headers.get("location") };
}

/** Registers on the homeserver and logs in. */
async function logIn(username) {
    const unknown = createClient({ baseUrl: homeserver });
    await unknown.registerRequest({ username, password: "correct horse", auth: { type: "m.login.dummy" } });
    const login = await unknown.loginWithPassword(username, "correct horse");
    return createClient({
        baseUrl: homeserver,
        idBaseUrl: identityServer,
        userId: login.user_id,
        deviceId: login.device_id,
        accessToken: login.access_token,
    });
}

await step("discovery", async () => {
    const found = await AutoDiscovery.fromDiscoveryConfig({
        "m.homeserver": { base_url: homeserver },
        "m.identity_server": { base_url: identityServer },
    });
    return [found["m.homeserver"].state, found["m.identity_server"].state];
});


// Accounts, and terms

const alice = await step("log in", () => logIn("alice"), (client) => client.getUserId());
const openId = await step("OpenID token", () => alice.getOpenIdToken());
const { token } = await step("register with the identity server", () => alice.registerWithIdentityServer(openId));
await step("before the terms", () => alice.getIdentityHashDetails(token));
const { policies } = await step("terms", () => alice.getTerms(SERVICE_TYPES.IS, identityServer));
const documents = Object.values(policies).map((policy) => policy.en.url);
await step("agree", () => alice.agreeToTerms(SERVICE_TYPES.IS, identityServer, token, documents));
await step("account", () => alice.getIdentityAccount(token));
await step("a foreign OpenID token", () => alice.registerWithIdentityServer({ ...openId, access_token: "made up" }));

// Proving addresses

async function bind(session, clientSecret) {
    const claim = { sid: session.sid, client_secret: clientSecret, mxid: alice.getUserId() };
    return (await post(`${V2}/3pid/bind`, claim, token)).body;
}

const mail = await step("email token", () => alice.requestEmailToken(MAIL, "secret.1", 1, undefined, token));
await step("email token, once more", () => alice.requestEmailToken(MAIL, "secret.1", 1, undefined, token));
await step("bind too early", () => bind(mail, "secret.1"));
await step("follow the link", () => followLink(MAIL.toLowerCase()));
await step("bind the email address", () => bind(mail, "secret.1"));

const next = `${identityServer}/_matrix/identity/versions`;
const sharpS = await step("email token with next link", () =>
    alice.requestEmailToken(SHARP_S, "secret.2", 1, next, token),
);
await step("follow the link to the next", () => followLink("max.strauss@example.org"));
await step("bind the folded email address", () => bind(sharpS, "secret.2"));

const phone = await step("msisdn token", () => alice.requestMsisdnToken("GB", "07700 900001", "secret.3", 1, undefined, token));
await step("wrong digits", () => alice.submitMsisdnToken(phone.sid, "secret.3", "wrong", token));
await step("digits", async () => {
    const [digits] = (await message(`+${PHONE}`)).match(/\b\d{6}\b/);
    return alice.submitMsisdnToken(phone.sid, "secret.3", digits, token);
});
await step("bind the phone number", () => bind(phone, "secret.3"));

// Somebody else looks them up

const bob = await step("log in as another", () => logIn("bob"), (client) => client.getUserId());
const { token: bobsToken } = await bob.registerWithIdentityServer(await bob.getOpenIdToken());
await bob.agreeToTerms(SERVICE_TYPES.IS, identityServer, bobsToken, documents);

await step("hash details", () => bob.getIdentityHashDetails(bobsToken));
await step("hashed lookup", () =>
    bob.identityHashedLookup(
        [
            [MAIL, "email"],
            [PHONE, "msisdn"],
            ["nobody@example.org", "email"],
        ],
        bobsToken,
    ),
);
await step("lookup", () => bob.lookupThreePid("email", MAIL.toUpperCase(), bobsToken));
await step("lookup of nobody", () => bob.lookupThreePid("email", "nobody@example.org", bobsToken));
await step("bulk lookup", () =>
    bob.bulkLookupThreePids(
        [
            ["email", MAIL],
            ["email", SHARP_S],
            ["email", "MAX.STRAUSS@EXAMPLE.ORG"],
            ["msisdn", PHONE],
            ["email", "nobody@example.org"],
        ],
        bobsToken,
    ),
);

// Going

await step("unbind", async () => {
    const threepid = { medium: "email", address: MAIL };
    return (await post(`${V2}/3pid/unbind`, { mxid: alice.getUserId(), threepid }, token)).body;
});
await step("lookup of the unbound", () => bob.lookupThreePid("email", MAIL, bobsToken));
await step("log out of the identity server", () => post(`${V2}/account/logout`, undefined, token));
await step("account after logging out", () => alice.getIdentityAccount(token));
await step("log out", () => alice.logout());
await step("after logging out", () => alice.whoami());
