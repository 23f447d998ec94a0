package openclawtest

import (
	"crypto/ed25519"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

func TestHello(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	c := dialRaw(t, b.g, nil)
	c.await("challenge", 0, func(f frame) bool { return f.Event == "connect.challenge" && f.Seq == 1 })
	hello := c.must("connect", connectWith(nil))
	for path, want := range map[string]any{
		"type": "hello-ok", "protocol": 4.0, "server.version": "2026.9.6", "server.bootId": b.g.BootID(),
		"policy.maxPayload": 26214400.0, "auth.scopes.2": "operator.admin", "snapshot.suspension.phase": "accepting",
		"snapshot.sessionDefaults.mainSessionKey": "agent:main:main",
	} {
		if got := hello.get(t, path); got != want {
			t.Errorf("%s is %v, want %v", path, got, want)
		}
	}
	if again := c.call("connect", connectWith(nil)); again.OK {
		t.Error("a second connect was accepted")
	}
	c.must("health", obj{})
}

func TestConnectRefusals(t *testing.T) {
	t.Parallel()
	client := func(key string, value any) func(obj) {
		return func(p obj) { p["client"].(obj)[key] = value }
	}
	set := func(key string, value any) func(obj) { return func(p obj) { p[key] = value } }
	rows := []struct {
		name, code, detail, message string
		close                       websocket.StatusCode
		change                      func(obj)
		header                      http.Header
	}{
		{"unknown client id", "INVALID_REQUEST", "", "/client/id", 1008, client("id", "dash"), nil},
		{"unknown mode", "INVALID_REQUEST", "", "/client/mode", 1008, client("mode", "operator"), nil},
		{"web client", "INVALID_REQUEST", "CONTROL_UI_ORIGIN_NOT_ALLOWED", "", 1008, client("id", "webchat"), nil},
		{"origin header", "INVALID_REQUEST", "CONTROL_UI_ORIGIN_NOT_ALLOWED", "", 1008, nil, http.Header{"Origin": {"http://127.0.0.1"}}},
		{"node without device", "NOT_PAIRED", "DEVICE_IDENTITY_REQUIRED", "", 1008, set("role", "node"), nil},
		{"wrong token", "INVALID_REQUEST", "AUTH_TOKEN_MISMATCH", "", 1008, set("auth", obj{"token": "nope"}), nil},
		{"no auth", "NOT_PAIRED", "DEVICE_IDENTITY_REQUIRED", "", 1008, func(p obj) { delete(p, "auth") }, nil},
		{"protocol 3 only", "INVALID_REQUEST", "PROTOCOL_MISMATCH", "", 1002, set("maxProtocol", 3), nil},
		{"protocol 5 only", "INVALID_REQUEST", "PROTOCOL_MISMATCH", "", 1002, func(p obj) { p["minProtocol"], p["maxProtocol"] = 5, 9 }, nil},
		{"unknown key", "INVALID_REQUEST", "", "unexpected property 'extra'", 1008, set("extra", 1), nil},
		{"unknown client key", "INVALID_REQUEST", "", "unexpected property", 1008, client("extra", 1), nil},
		{"client missing", "INVALID_REQUEST", "", "required property 'client'", 1008, func(p obj) { delete(p, "client") }, nil},
	}
	b := setup(t, nil)
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			c := dialRaw(t, b.g, r.header)
			f := c.call("connect", connectWith(r.change))
			if f.OK || f.Error.Code != r.code || !strings.Contains(f.Error.Message, r.message) {
				t.Fatalf("answer %s", f.raw)
			}
			if r.detail != "" && f.Error.Details["code"] != r.detail {
				t.Fatalf("details %v, want %s", f.Error.Details, r.detail)
			}
			if got := c.closeCode(); got != r.close {
				t.Fatalf("close %d, want %d", got, r.close)
			}
		})
	}
}

func TestConnectWithoutScopes(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	rows := map[string]func(obj){
		"no scopes asked": func(p obj) { delete(p, "scopes") },
		"other mode":      func(p obj) { p["client"].(obj)["mode"] = "cli" },
		"probe":           func(p obj) { p["client"].(obj)["id"], p["client"].(obj)["mode"] = "openclaw-probe", "probe" },
	}
	for name, change := range rows {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := dialRaw(t, b.g, nil)
			hello := c.must("connect", connectWith(change))
			if scopes, ok := hello.get(t, "auth.scopes").([]any); !ok || len(scopes) != 0 {
				t.Fatalf("scopes %v", hello.get(t, "auth.scopes"))
			}
			c.must("health", obj{})
			f := c.call("sessions.list", obj{})
			if f.OK || f.Error.Code != "FORBIDDEN" || f.Error.Message != "missing scope: operator.read" || f.Error.Details["missingScope"] != "operator.read" {
				t.Fatalf("answer %s", f.raw)
			}
		})
	}
}

func TestConnectVariantsLetIn(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	rows := map[string]func(obj){
		"cli":                   func(p obj) { p["client"].(obj)["id"], p["client"].(obj)["mode"] = "cli", "cli" },
		"token as password":     func(p obj) { p["auth"] = obj{"password": testToken} },
		"role left out":         func(p obj) { delete(p, "role") },
		"unknown scopes echoed": func(p obj) { p["scopes"] = []string{"operator.read", "made.up", "operator.write"} },
	}
	for name, change := range rows {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := dialRaw(t, b.g, nil)
			hello := c.must("connect", connectWith(change))
			if scopes, ok := hello.get(t, "auth.scopes").([]any); !ok || len(scopes) != 3 {
				t.Fatalf("scopes %v", hello.get(t, "auth.scopes"))
			}
			c.must("sessions.list", obj{})
		})
	}
}

func TestPreAuthFrames(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	t.Run("first frame is not connect", func(t *testing.T) {
		t.Parallel()
		c := dialRaw(t, b.g, nil)
		if f := c.call("health", obj{}); f.OK || f.Error.Code != "INVALID_REQUEST" {
			t.Fatalf("answer %s", f.raw)
		}
		if got := c.closeCode(); got != 1008 {
			t.Fatalf("close %d", got)
		}
	})
	t.Run("broken JSON", func(t *testing.T) {
		t.Parallel()
		c := dialRaw(t, b.g, nil)
		c.write(`{"type":`)
		if got := c.closeCode(); got != 1000 {
			t.Fatalf("close %d", got)
		}
	})
	t.Run("more than 64 KiB", func(t *testing.T) {
		t.Parallel()
		c := dialRaw(t, b.g, nil)
		c.write(`"` + strings.Repeat("x", 70_000) + `"`)
		if got := c.closeCode(); got != 1009 {
			t.Fatalf("close %d", got)
		}
	})
	t.Run("silence", func(t *testing.T) {
		t.Parallel()
		c := dialRaw(t, b.g, nil)
		if got := c.closeCode(); got != 1000 {
			t.Fatalf("close %d", got)
		}
	})
}

func TestFramesAfterHandshake(t *testing.T) {
	t.Parallel()
	// No ping comes while the client is busy writing its huge frame.
	b := setup(t, func(c *Config) { c.TimeScale = 1 })
	c := dial(t, b.g)
	c.write(`{"broken`)
	if err := c.ws.Write(testContext(t), websocket.MessageBinary, []byte(`{"type":"req","id":"bin","method":"health"}`)); err != nil {
		t.Fatal(err)
	}
	for i, noRequest := range []string{`[]`, `{"type":"req","id":"x","method":"health","extra":1}`, `{"type":"req","method":"health"}`, `{"Type":"req","id":"x","method":"health"}`} {
		c.write(noRequest)
		if f := c.answer("invalid", i); f.OK || f.Error.Code != "INVALID_REQUEST" {
			t.Fatalf("%s: %s", noRequest, f.raw)
		}
	}
	if f := c.call("nosuch", obj{}); f.Error.Message != "unknown method: nosuch" || f.Error.Code != "INVALID_REQUEST" {
		t.Fatalf("answer %s", f.raw)
	}
	if f := c.call("agent", obj{"idempotencyKey": "a"}); f.Error.Message != "invalid agent params: must have required property 'message'" {
		t.Fatalf("answer %s", f.raw)
	}
	if f := c.call("agent", obj{"idempotencyKey": "a", "message": "m", "nope": 1}); !strings.Contains(f.Error.Message, "unexpected property 'nope'") {
		t.Fatalf("answer %s", f.raw)
	}
	c.write(`{"type":"req","id":"big","method":"health","params":{"pad":"` + strings.Repeat("x", 26<<20) + `"}}`)
	if got := c.closeCode(); got != 1009 {
		t.Fatalf("close %d", got)
	}
}

func TestStartingGatewayRefusesWith1013(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.StartupTime = 200 * time.Second })
	if code, body := httpDo(t, b.g, "GET", "/readyz", "", nil); code != 503 || !strings.Contains(body, "startup-sidecars") {
		t.Fatalf("readyz %d %s", code, body)
	}
	c := dialRaw(t, b.g, nil)
	f := c.call("connect", connectWith(nil))
	if f.OK || f.Error.Code != "UNAVAILABLE" || !f.Error.Retryable || f.Error.RetryAfterMs != 500 || f.Error.Details["reason"] != "startup-sidecars" {
		t.Fatalf("answer %s", f.raw)
	}
	if got := c.closeCode(); got != 1013 {
		t.Fatalf("close %d", got)
	}
	eventually(t, "ready", func() bool { return b.g.Stats().Ready })
	if code, _ := httpDo(t, b.g, "GET", "/readyz", "", nil); code != 200 {
		t.Fatalf("readyz %d", code)
	}
	dial(t, b.g)
}

func TestOldAndOddGateways(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	set := func(f Faults) {
		t.Helper()
		if err := b.g.SetFaults(f); err != nil {
			t.Fatal(err)
		}
	}
	set(Faults{Protocol: 3})
	hello := dialRaw(t, b.g, nil).must("connect", connectWith(nil))
	if hello.get(t, "protocol") != 3.0 || hello.get(t, "server.bootId") != nil {
		t.Fatalf("hello %s", hello.raw)
	}
	set(Faults{OmitBootID: true})
	if hello := dialRaw(t, b.g, nil).must("connect", connectWith(nil)); hello.get(t, "server.bootId") != nil || hello.get(t, "protocol") != 4.0 {
		t.Fatalf("hello %s", hello.raw)
	}
	set(Faults{NoScopes: true})
	if hello := dialRaw(t, b.g, nil).must("connect", connectWith(nil)); len(hello.get(t, "auth.scopes").([]any)) != 0 {
		t.Fatalf("hello %s", hello.raw)
	}
}

// signed adds a device key to connect parameters.
func signed(c *client, key ed25519.PrivateKey, change func(obj)) obj {
	challenge, _ := c.await("challenge", 0, func(f frame) bool { return f.Event == "connect.challenge" })
	nonce, _ := challenge.get(c.t, "nonce").(string)
	p := connectWith(change)
	pub := key.Public().(ed25519.PublicKey)
	id, encoded := deviceOf(pub)
	at := time.Now().UnixMilli()
	client, auth := p["client"].(obj), p["auth"].(obj)
	str := func(m obj, k string) string { s, _ := m[k].(string); return s }
	cp := connectParams{role: "operator", scopes: p["scopes"].([]string),
		client: params{"id": encode(client["id"]), "mode": encode(client["mode"])}, auth: params{"token": encode(str(auth, "token")), "deviceToken": encode(str(auth, "deviceToken"))}}
	v2, _ := signedStrings(cp, id, at, nonce)
	p["device"] = obj{"id": id, "publicKey": encoded, "signedAt": at, "nonce": nonce,
		"signature": base64.RawURLEncoding.EncodeToString(ed25519.Sign(key, []byte(v2)))}
	return p
}

func TestSignedStringMatchesTheKnownVector(t *testing.T) {
	t.Parallel()
	seed := make([]byte, 32)
	for i := range seed {
		seed[i] = byte(i)
	}
	key := ed25519.NewKeyFromSeed(seed)
	id, pub := deviceOf(key.Public().(ed25519.PublicKey))
	if pub != "A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg" || id != "56475aa75463474c0285df5dbf2bcab73da651358839e9b77481b2eab107708c" {
		t.Fatalf("device %s %s", id, pub)
	}
	p := connectParams{role: "operator", scopes: []string{"operator.read", "operator.write"},
		client: params{"id": encode("gateway-client"), "mode": encode("backend"), "platform": encode("linux")}, auth: params{"token": encode("secret-token")}}
	v2, v3 := signedStrings(p, id, 1795290864313, "c8166c10-9fda-4c56-b5c5-86e3f0e76705")
	sign := func(s string) string { return base64.RawURLEncoding.EncodeToString(ed25519.Sign(key, []byte(s))) }
	if got := sign(v2); got != "Gwkco6gzPrLzCoIy2Ts9oY-v_Uqit6jg21EMAYkVKpbN2zp1mO5MebzNO8z0z631ntFOM8dq2vMOPHyEY3imBA" {
		t.Errorf("v2 %s of %s", got, v2)
	}
	if got := sign(v3); got != "SkeTa4V-uzZmHlwBJXiaOxXVP9QdJJn2YH6ru6SwDGnFloQze6E5fYbP0dFOXvISxBfiXL0xvU5lb39C42tLBQ" {
		t.Errorf("v3 %s of %s", got, v3)
	}
}

func TestPairing(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	admin := dialRaw(t, b.g, nil)
	admin.must("connect", connectWith(nil))
	if err := b.g.SetFaults(Faults{PairingRequired: true}); err != nil {
		t.Fatal(err)
	}
	plain := dialRaw(t, b.g, nil)
	if f := plain.call("connect", connectWith(nil)); f.Error == nil || f.Error.Code != "NOT_PAIRED" || f.Error.Details["code"] != "PAIRING_REQUIRED" {
		t.Fatalf("without device: %s", f.raw)
	}
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	first := dialRaw(t, b.g, nil)
	f := first.call("connect", signed(first, key, nil))
	if f.OK || f.Error.Details["reason"] != "not-paired" {
		t.Fatalf("unknown device: %s", f.raw)
	}
	if got := first.closeCode(); got != 1008 {
		t.Fatalf("close %d", got)
	}
	admin.must("device.pair.approve", obj{"requestId": f.Error.Details["requestId"]})
	second := dialRaw(t, b.g, nil)
	hello := second.must("connect", signed(second, key, nil))
	token, _ := hello.get(t, "auth.deviceToken").(string)
	if len(token) != 43 {
		t.Fatalf("device token %q", token)
	}
	third := dialRaw(t, b.g, nil)
	third.must("connect", signed(third, key, func(p obj) { p["auth"] = obj{"deviceToken": token} }))
	forged := dialRaw(t, b.g, nil)
	p := signed(forged, key, nil)
	p["scopes"] = []string{"operator.admin", "operator.pairing"}
	if f := forged.call("connect", p); f.OK || f.Error.Details["code"] != "DEVICE_AUTH_SIGNATURE_INVALID" {
		t.Fatalf("forged: %s", f.raw)
	}
}
