package openclawtest

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"
)

const (
	connectSpec = "minProtocol*:i maxProtocol*:i client*:o role:s scopes:a caps:a commands:a permissions:o auth:o device:o locale:s userAgent:s pathEnv:s"
	clientSpec  = "id*:s version*:s platform*:s mode*:s displayName:s instanceId:s timeZone:s deviceFamily:s modelIdentifier:s buildId:s"
	authSpec    = "token:s password:s deviceToken:s bootstrapToken:s"
	deviceSpec  = "id*:s publicKey*:s signature*:s signedAt*:x nonce*:s"
	clientIDs   = " webchat-ui openclaw-control-ui openclaw-browser-copilot openclaw-tui webchat cli gateway-client openclaw-macos openclaw-linux openclaw-ios openclaw-watchos openclaw-android node-host openclaw-worker test fingerprint openclaw-probe "
	clientModes = " webchat cli ui backend node worker probe test "
)

// refusal is an answer to connect followed by a close.
type refusal struct {
	err  *rpcError
	code websocket.StatusCode
}

func policy(code, message, detail string) *refusal {
	e := &rpcError{Code: code, Message: message}
	if detail != "" {
		e.Details = map[string]any{"code": detail}
	}
	return &refusal{e, websocket.StatusPolicyViolation}
}

// handshake handles the first frame of a socket. Callers hold g.mu.
func (c *conn) handshake(req request, err error) {
	g := c.g
	switch {
	case err == errNotJSON:
		c.close(websocket.StatusNormalClosure, "")
		return
	case err != nil:
		c.refuse("invalid", invalid("invalid request frame"), websocket.StatusPolicyViolation, "invalid request frame")
		return
	case req.method != "connect":
		c.refuse(req.id, invalid("invalid handshake: first request must be connect"), websocket.StatusPolicyViolation, "invalid handshake: first request must be connect")
		return
	}
	if !c.l.ready {
		e := &rpcError{Code: "UNAVAILABLE", Message: "gateway starting; retry shortly", Retryable: true, RetryAfterMs: 500, Details: map[string]any{"reason": "startup-sidecars"}}
		c.refuse(req.id, e, websocket.StatusTryAgainLater, "gateway starting")
		return
	}
	hello, no := g.admitClient(c, req)
	if no != nil {
		c.refuse(req.id, no.err, no.code, closeReason(no.err.Message))
		return
	}
	c.silence.Stop()
	c.ready = true
	c.ws.SetReadLimit(maxPayload)
	c.send(okFrame(req.id, hello))
}

func closeReason(s string) string {
	if len(s) > 120 {
		return strings.ToValidUTF8(s[:120], "")
	}
	return s
}

type connectParams struct {
	params
	client params
	auth   params
	scopes []string
	role   string
}

func (g *Gateway) admitClient(c *conn, req request) (any, *refusal) {
	p, no := parseConnect(req.params)
	if no != nil {
		return nil, no
	}
	if no := g.checkProtocol(p); no != nil {
		return nil, no
	}
	id, mode := p.client.str("id"), p.client.str("mode")
	if c.origin || id == "webchat" || id == "webchat-ui" || id == "openclaw-control-ui" {
		return nil, policy("INVALID_REQUEST", "origin not allowed (open the Control UI from the gateway host or allow it in gateway.controlUi.allowedOrigins)", "CONTROL_UI_ORIGIN_NOT_ALLOWED")
	}
	if p.role != "operator" && p.role != "node" {
		return nil, policy("INVALID_REQUEST", "invalid role", "")
	}
	grant, token, no := g.authorize(c, p)
	if no != nil {
		return nil, no
	}
	keeps := id == "gateway-client" && mode == "backend" || id == "cli" && mode == "cli"
	if !keeps && !p.has("device") || g.faults.NoScopes {
		grant = []string{}
	}
	c.scopes = parseScopes(grant)
	return g.hello(c, grant, token), nil
}

func parseConnect(raw json.RawMessage) (connectParams, *refusal) {
	bad := func(e *rpcError) (connectParams, *refusal) {
		return connectParams{}, &refusal{e, websocket.StatusPolicyViolation}
	}
	p, err := parseParams("connect", connectSpec, raw)
	if err != nil {
		return bad(err)
	}
	out := connectParams{params: p, role: "operator", scopes: p.strings("scopes")}
	if out.client, err = parseParams("connect", clientSpec, p["client"]); err != nil {
		return bad(err)
	}
	if out.auth, err = parseParams("connect", authSpec, p["auth"]); err != nil {
		return bad(err)
	}
	if p.has("scopes") && out.scopes == nil {
		return bad(invalid("invalid connect params: at /scopes: must be array of string"))
	}
	if out.scopes == nil {
		out.scopes = []string{}
	}
	if p.has("role") {
		out.role = p.str("role")
	}
	if !strings.Contains(clientIDs, " "+out.client.str("id")+" ") {
		return bad(invalid("invalid connect params: at /client/id: must be equal to one of the allowed values"))
	}
	if !strings.Contains(clientModes, " "+out.client.str("mode")+" ") {
		return bad(invalid("invalid connect params: at /client/mode: must be equal to one of the allowed values"))
	}
	return out, nil
}

func (g *Gateway) protocol() int {
	if g.faults.Protocol > 0 {
		return g.faults.Protocol
	}
	return 4
}

func (g *Gateway) checkProtocol(p connectParams) *refusal {
	want := g.protocol()
	if p.integer("minProtocol", 0) <= want && want <= p.integer("maxProtocol", 0) {
		return nil
	}
	details := map[string]any{"expectedProtocol": want}
	if want >= 4 {
		details["code"] = "PROTOCOL_MISMATCH"
	}
	return &refusal{&rpcError{Code: "INVALID_REQUEST", Message: "protocol mismatch", Details: details}, websocket.StatusProtocolError}
}

// authorize decides who is let in and with which scopes; token is a device
// token handed out, or empty.
func (g *Gateway) authorize(c *conn, p connectParams) (grant []string, token string, no *refusal) {
	secret := p.auth.str("token")
	if secret == "" {
		secret = p.auth.str("password")
	}
	var device string
	if p.has("device") {
		if device, no = g.checkDevice(c, p); no != nil {
			return nil, "", no
		}
	}
	byToken := subtle.ConstantTimeCompare([]byte(secret), []byte(g.cfg.Token)) == 1
	switch {
	case p.role == "node" && device == "", secret == "" && device == "" && p.auth.str("deviceToken") == "":
		return nil, "", policy("NOT_PAIRED", "device identity required", "DEVICE_IDENTITY_REQUIRED")
	case g.faults.PairingRequired:
		return g.authorizePaired(c, p, device, byToken)
	case byToken:
		c.device = device
		return p.scopes, "", nil
	case secret == "":
		return nil, "", policy("INVALID_REQUEST", "unauthorized: gateway token missing", "AUTH_TOKEN_MISSING")
	}
	return nil, "", policy("INVALID_REQUEST", "unauthorized: gateway token mismatch (provide gateway auth token)", "AUTH_TOKEN_MISMATCH")
}

// authorizePaired is the way in from a non-loopback address.
func (g *Gateway) authorizePaired(c *conn, p connectParams, device string, byToken bool) ([]string, string, *refusal) {
	paired := g.store.paired[device]
	given := p.auth.str("deviceToken")
	if given == "" {
		given = p.auth.str("token")
	}
	if paired != nil && (byToken || subtle.ConstantTimeCompare([]byte(given), []byte(paired.Token)) == 1) {
		for _, s := range p.scopes {
			if !slices.Contains(paired.Scopes, s) && !slices.Contains(paired.Scopes, "operator.admin") {
				return nil, "", g.pairingRefusal(device, p, "scope-upgrade")
			}
		}
		c.device = device
		return p.scopes, paired.Token, nil
	}
	if paired != nil {
		return nil, "", policy("INVALID_REQUEST", "unauthorized: device token mismatch", "AUTH_DEVICE_TOKEN_MISMATCH")
	}
	if !byToken {
		return nil, "", policy("INVALID_REQUEST", "unauthorized: gateway token mismatch (provide gateway auth token)", "AUTH_TOKEN_MISMATCH")
	}
	return nil, "", g.pairingRefusal(device, p, "not-paired")
}

func (g *Gateway) pairingRefusal(device string, p connectParams, reason string) *refusal {
	request := g.store.requestPairing(device, p, reason)
	details := map[string]any{
		"code": "PAIRING_REQUIRED", "reason": reason, "requestId": request, "deviceId": device,
		"requestedRole": p.role, "requestedScopes": p.scopes,
		"remediationHint": "approve the request on the gateway host: openclaw devices approve " + request,
	}
	return &refusal{&rpcError{Code: "NOT_PAIRED", Message: "pairing required: device is not approved yet", Details: details}, websocket.StatusPolicyViolation}
}

// checkDevice verifies the signed nonce of a device key and returns the device id.
func (g *Gateway) checkDevice(c *conn, p connectParams) (string, *refusal) {
	d, err := parseParams("connect", deviceSpec, p.params["device"])
	if err != nil {
		return "", &refusal{err, websocket.StatusPolicyViolation}
	}
	var signedAt int64
	if json.Unmarshal(d["signedAt"], &signedAt) != nil {
		return "", policy("INVALID_REQUEST", "invalid connect params: at /device/signedAt: must be integer", "")
	}
	pub, bad := base64.RawURLEncoding.DecodeString(d.str("publicKey"))
	if bad != nil || len(pub) != ed25519.PublicKeySize {
		return "", policy("INVALID_REQUEST", "device identity mismatch", "DEVICE_AUTH_DEVICE_ID_MISMATCH")
	}
	id, _ := deviceOf(pub)
	if id != d.str("id") {
		return "", policy("INVALID_REQUEST", "device identity mismatch", "DEVICE_AUTH_DEVICE_ID_MISMATCH")
	}
	if skew := time.Since(time.UnixMilli(signedAt)); skew > 2*time.Minute || skew < -2*time.Minute {
		return "", policy("INVALID_REQUEST", "device signature expired", "DEVICE_AUTH_SIGNATURE_EXPIRED")
	}
	if d.str("nonce") != c.nonce {
		return "", policy("INVALID_REQUEST", "device nonce mismatch", "DEVICE_AUTH_NONCE_MISMATCH")
	}
	sig, bad := base64.RawURLEncoding.DecodeString(strings.NewReplacer("+", "-", "/", "_", "=", "").Replace(d.str("signature")))
	v2, v3 := signedStrings(p, id, signedAt, c.nonce)
	if bad != nil || !ed25519.Verify(pub, []byte(v3), sig) && !ed25519.Verify(pub, []byte(v2), sig) {
		return "", policy("INVALID_REQUEST", "device signature invalid", "DEVICE_AUTH_SIGNATURE_INVALID")
	}
	return id, nil
}

func signedStrings(p connectParams, id string, signedAt int64, nonce string) (v2, v3 string) {
	token := p.auth.str("token")
	for _, name := range []string{"deviceToken", "bootstrapToken"} {
		if token == "" {
			token = p.auth.str(name)
		}
	}
	body := strings.Join([]string{id, p.client.str("id"), p.client.str("mode"), p.role, strings.Join(p.scopes, ","),
		strconv.FormatInt(signedAt, 10), token, nonce}, "|")
	norm := func(name string) string { return strings.ToLower(strings.TrimSpace(p.client.str(name))) }
	return "v2|" + body, "v3|" + body + "|" + norm("platform") + "|" + norm("deviceFamily")
}

// deviceOf names a public key as gateways do.
func deviceOf(pub ed25519.PublicKey) (id, encoded string) {
	sum := sha256.Sum256(pub)
	return hex.EncodeToString(sum[:]), base64.RawURLEncoding.EncodeToString(pub)
}

func (g *Gateway) hello(c *conn, scopes []string, deviceToken string) any {
	server := map[string]any{"version": g.cfg.Version, "connId": c.id}
	if g.protocol() >= 4 && !g.faults.OmitBootID {
		server["bootId"] = c.l.boot
		server["buildId"] = g.cfg.Version + "-release-sim"
	}
	auth := map[string]any{"method": "token", "role": "operator", "scopes": scopes, "recoveryScope": uuid.NewString()}
	if deviceToken != "" {
		auth["deviceToken"], auth["issuedAtMs"] = deviceToken, nowMs()
	}
	snapshot := map[string]any{
		"suspension": map[string]any{"phase": c.l.suspend.phase}, "presence": g.presence(c.l), "health": g.healthPayload(c.l),
		"stateVersion": map[string]int{"presence": 1, "health": 1}, "uptimeMs": g.uptimeMs(),
		"appliedConfigHash": revision(g.config.tree),
		"sessionDefaults":   map[string]any{"defaultAgentId": "main", "mainKey": "main", "mainSessionKey": mainSession, "scope": "per-sender"},
		"authMode":          "token",
	}
	if c.scopes.allows("operator.admin") {
		snapshot["configPath"], snapshot["stateDir"] = g.config.path, g.cfg.StateDir
	}
	return map[string]any{
		"type": "hello-ok", "protocol": g.protocol(), "server": server,
		"features": map[string]any{"methods": listedMethods(), "events": listedEvents(), "capabilities": []string{"model-catalog-snapshot"}},
		"snapshot": snapshot, "auth": auth,
		"policy": map[string]any{
			"maxPayload": maxPayload, "maxBufferedBytes": maxBuffered, "tickIntervalMs": g.tickInterval().Milliseconds(),
			"attachments": map[string]int{"maxBytes": 19_464_192, "maxImageBytes": 6_291_456},
		},
	}
}

// scopeSet are the scopes of a connection.
type scopeSet []string

func parseScopes(list []string) scopeSet { return slices.Clone(list) }

// allows reports whether the set covers scope: admin covers all, write covers read.
func (s scopeSet) allows(scope string) bool {
	if scope == "" || slices.Contains(s, scope) || slices.Contains(s, "operator.admin") {
		return true
	}
	return scope == "operator.read" && slices.Contains(s, "operator.write")
}
