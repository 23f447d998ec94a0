package app

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
	"github.com/getkin/kin-openapi/openapi3"
	gocmp "github.com/google/go-cmp/cmp"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// The cross-tenant matrix: at every place of the document that can name a thing
// (in path, query, body, header, cursor or topic) tenant bravo names a thing of
// tenant alpha, and then one that never was. Both answers are the same, byte for
// byte but for what was asked and what is new in each; neither holds anything of
// alpha's, and alpha's things stay as they are.

// kinds is what the string at a place names, by the name of its parameter or field.
var kinds = map[string]string{
	"tenant": "tenant", "pool": "pool", "session": "session", "gateway": "gateway", "email": "email", "url": "url", "label": "label", "code": "code",
	"id_begin": "task", "id_end": "task", "actor": "actor", "target": "target", "topics": "topic", "cursor": "cursor", "Idempotency-Key": "idempotency",
}

// idKinds is what an id names, by the first part of the path.
var idKinds = map[string]string{
	"tasks": "task", "gateways": "gateway", "sessions": "session", "pools": "pool", "keys": "key", "users": "user", "tenants": "tenant",
}

// plain are places that name nothing of a tenant.
var plain = map[string]string{
	"model": "a model of a provider", "message": "a text", "reason": "a text", "name": "a text", "password": "a secret", "token": "a secret",
	"region": "a word that gateways bear", "capabilities": "words that gateways bear", "labels": "words for a new thing",
	"node": "a node, which is no tenant's", "command": "refused to tenants", "config": "refused to tenants", "env": "refused to tenants", "state_dir": "refused to tenants",
	"action": "an operation of the document", "If-Match": "a version of what the path names",
	"getErrorDocs path:code": "an error code of the document",
}

// takenAt are places that need an id, address or URL which nobody has. What they
// say is the same whoever has it.
var takenAt = map[string]string{
	"createGateway /id": `the id \"<asked>\" is not free`, "createUser /email": `the id \"<asked>\" is not free`, "putPool create path:id": `the id \"<asked>\" is not free`,
	"createGateway /url": "another gateway has this URL already", "updateGateway /url": "another gateway has this URL already",
}

// row is one way to call an operation with what is the caller's own.
type row struct {
	name   string // where an operation has several
	id     func(s *side) string
	body   func(s *side) map[string]any
	header map[string]string
}

func field(name string, value any) func(*side) map[string]any {
	return func(*side) map[string]any { return map[string]any{name: value} }
}

func nothing(*side) map[string]any { return map[string]any{} }

// rows has every operation of the document.
var rows = map[string][]row{
	"submitTask": {{body: func(s *side) map[string]any {
		return map[string]any{"priority": "low", "pool": s.pool, "input": map[string]any{"message": "hello"}}
	}}},
	"listTasks": {{}}, "getQueue": {{}},
	"getTask": {{id: (*side).task}}, "streamTask": {{id: (*side).task}}, "cancelTask": {{id: (*side).task, body: nothing}}, "replayTask": {{id: (*side).task}},
	"releaseTask":       {{id: (*side).task, body: field("action", "requeue")}},
	"replayDeadLetters": {{body: field("filter", map[string]any{})}},

	"createGateway": {{body: func(s *side) map[string]any {
		id := s.w.fresh("gw")
		return map[string]any{"id": id, "url": "ws://10.0.0.1:1/" + id, "token": "t"}
	}}},
	"listGateways": {{}}, "getGateway": {{id: (*side).newGateway}}, "deleteGateway": {{id: (*side).newGateway}}, "drainGateway": {{id: (*side).newGateway}},
	"resumeGateway": {{id: (*side).newGateway}}, "restartGateway": {{id: (*side).newGateway}},
	"updateGateway": {{id: (*side).newGateway, body: func(s *side) map[string]any {
		return map[string]any{"url": "ws://10.0.0.1:1/" + s.w.fresh("url"), "token": "t"}
	}}, {name: "move", id: (*side).newGateway, body: field("here", true)}},

	"createSession": {{body: func(s *side) map[string]any { return map[string]any{"pool": s.pool} }}},
	"listSessions":  {{}}, "getSession": {{id: (*side).newSession}}, "closeSession": {{id: (*side).newSession}}, "resumeSession": {{id: (*side).newSession}},
	"sendMessage":   {{id: (*side).newSession, body: field("message", "hello")}},
	"getTranscript": {{id: func(s *side) string { return s.session }}},
	"moveSession":   {{id: (*side).newSession, body: nothing}},

	"listPools": {{}}, "getPool": {{id: func(s *side) string { return s.pool }}},
	"putPool": {
		{name: "replace", id: func(s *side) string { return s.pool }, body: nothing, header: map[string]string{"If-Match": `"1"`}},
		{name: "create", id: func(s *side) string { return s.w.fresh("pool") }, body: nothing, header: map[string]string{"If-None-Match": "*"}},
	},

	"deletePool": {{id: (*side).newPool}},

	"createKey": {{body: func(*side) map[string]any { return map[string]any{"name": "k", "permissions": []string{"read"}} }}},
	"listKeys":  {{}}, "getKey": {{id: func(s *side) string { return s.keyID }}}, "revokeKey": {{id: (*side).newKey}},
	"createUser": {{body: func(s *side) map[string]any {
		return map[string]any{"email": s.w.fresh("u") + "@b.example", "password": "correct horse battery"}
	}}},
	"listUsers": {{}}, "getUser": {{id: (*side).newUser}}, "updateUser": {{id: (*side).newUser, body: field("role", "viewer")}}, "deleteUser": {{id: (*side).newUser}},
	"createTenant": {{body: func(s *side) map[string]any { return map[string]any{"id": s.w.fresh("tenant")} }}}, "listTenants": {{}},

	"listAudit": {{}}, "verifyAudit": {{}}, "listNodes": {{}}, "streamEvents": {{}},
	"getOpenAPI": {{}}, "getDocs": {{}}, "getHealth": {{}}, "getLive": {{}}, "getReady": {{}},
	"getErrorDocs": {{id: func(*side) string { return "not_found" }}},
}

// world is a node with the two tenants, and an operator who sees both.
type world struct {
	t            *testing.T
	a            *App
	c            *commands
	root         messages.Secret
	alpha, bravo *side
	made         int
}

// side is a tenant with something of each kind.
type side struct {
	w                                 *world
	tenant                            string
	key                               messages.Secret
	keyID, userID                     string
	tasks                             []string // queued, done, dead, held
	gateway, session, pool, link      string
	email, label, code, onceUsed, off string
}

func (w *world) fresh(what string) string {
	w.made++
	return fmt.Sprintf("fresh-%s-%d", what, w.made)
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, a: benchNode(t, t.TempDir(), 0, 2, nil)}
	w.a.networks.Within = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} // of this machine a tenant may name nothing
	w.c = newCommands(w.a)
	w.root = keyOf(t, w.c, "")
	w.alpha, w.bravo = w.side("alpha"), w.side("bravo")
	for weight := 2; weight < 4; weight++ { // rows of the audit log
		r := w.do(w.alpha.key, "PATCH", "/gateways/"+w.alpha.gateway, nil, map[string]any{"weight": weight})
		if r.status != http.StatusOK {
			t.Fatal(r)
		}
	}
	return w
}

func (w *world) side(name string) *side {
	ctx, t := w.t.Context(), w.t
	s := &side{w: w, tenant: name + "-corp", pool: name + "-1", off: name + "-off", gateway: name + "-gw", session: name + "-s", link: "ws://10.0.0.1:1/" + name,
		email: "ann@" + name + ".example", label: name + "-team", code: name + "_code", onceUsed: name + "-once"}
	makeTenants(t, w.c, s.tenant)
	k, key, err := w.c.app.Commands().Accounts.CreateKey(ctx, messages.Key{Name: name, Tenant: s.tenant, Permissions: []string{"admin"}}, "")
	w.must(err)
	s.key, s.keyID = key, k.ID
	u, err := w.c.app.Commands().Accounts.CreateUser(ctx, messages.User{Email: s.email, Tenant: s.tenant, Role: "user"}, "correct horse battery")
	w.must(err)
	s.userID = u.ID
	_, err = w.c.pools().Put(ctx, s.tenant, messages.Pool{ID: s.pool, Tenant: s.tenant})
	w.must(err)
	_, err = w.c.gateways().Create(ctx, "", messages.Gateway{ID: s.gateway, Tenant: s.tenant, Pool: s.tenant, URL: s.link, Token: "t", Weight: 1, MaxConcurrency: 2})
	w.must(err)
	reaches(t, w.c.gateways(), s.gateway, messages.GatewayReady)
	words := func() *messages.TaskSpec {
		x := spec(name + " words")
		x.Labels = map[string]string{s.label: name}
		return x
	}
	for range 3 { // turns of the session
		out, err := w.c.tasks().Submit(ctx, server.SubmitRequest{Tenant: s.tenant, Session: s.session, Class: messages.Low, Spec: words()})
		w.must(err)
		for deadline := time.Now().Add(10 * time.Second); !out.Task.State.Terminal(); {
			out.Task, err = w.c.tasks().Task(ctx, s.tenant, out.Task.ID, false)
			w.must(err)
			if time.Now().After(deadline) {
				t.Fatalf("task %s is %s", out.Task.ID, out.Task.State)
			}
		}
		s.tasks = append(s.tasks[:0], out.Task.ID)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		session, err := w.a.store.Session(ctx, s.tenant, s.session)
		w.must(err)
		if session.State == messages.SessionIdle {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the session is %s", session.State)
		}
	}
	s.tasks = append(s.tasks, s.task())
	// Nobody's owner knows of these: their pool has none before the next start.
	_, err = w.a.repos.Pools.Put(ctx, messages.Pool{ID: s.off, Tenant: s.tenant})
	w.must(err)
	for _, state := range []messages.TaskState{messages.DeadLetter, messages.Held} {
		task := messages.Task{ID: messages.NewID(), Tenant: s.tenant, Pool: s.off, Class: messages.Low, State: messages.Queued, Spec: words(), CreatedAt: messages.Now()}
		end := task
		if end.State = state; state == messages.DeadLetter {
			end.Error, end.FinishedAt = &messages.TaskError{Code: s.code}, messages.Now()
		}
		w.must(committed(ctx, w.a, persistence.Op{Insert: &persistence.TaskInsert{Task: task}}, persistence.Op{Update: &persistence.TaskUpdate{Task: end, From: messages.Queued}}))
		s.tasks = append(s.tasks, task.ID)
	}
	return s
}

// task is a new one that waits.
func (s *side) task() string {
	out, err := s.w.c.tasks().Submit(s.w.t.Context(), server.SubmitRequest{Tenant: s.tenant, Pool: s.pool, Class: messages.Low, Spec: spec("waits")})
	s.w.must(err)
	return out.Task.ID
}

func (s *side) newGateway() string {
	g := messages.Gateway{ID: s.w.fresh("gw"), Tenant: s.tenant, Pool: s.tenant, Token: "t", Weight: 1, MaxConcurrency: 1}
	g.URL = "ws://10.0.0.1:1/" + g.ID
	_, err := s.w.c.gateways().Create(s.w.t.Context(), "", g)
	s.w.must(err)
	reaches(s.w.t, s.w.c.gateways(), g.ID, messages.GatewayReady)
	return g.ID
}

func (s *side) newPool() string {
	p, err := s.w.c.pools().Put(s.w.t.Context(), s.tenant, messages.Pool{ID: s.w.fresh("pool"), Tenant: s.tenant})
	s.w.must(err)
	return p.ID
}

func (s *side) newSession() string {
	made, err := s.w.c.sessions().Create(s.w.t.Context(), messages.Session{ID: s.w.fresh("s"), Tenant: s.tenant, Pool: s.pool})
	s.w.must(err)
	return made.ID
}

func (s *side) newKey() string {
	k, _, err := s.w.c.app.Commands().Accounts.CreateKey(s.w.t.Context(), messages.Key{Name: "k", Tenant: s.tenant, Permissions: []string{"read"}}, "")
	s.w.must(err)
	return k.ID
}

func (s *side) newUser() string {
	u, err := s.w.c.app.Commands().Accounts.CreateUser(s.w.t.Context(), messages.User{Email: s.w.fresh("u") + "@b.example", Tenant: s.tenant, Role: "user"}, "correct horse battery")
	s.w.must(err)
	return u.ID
}

// things are what there is of a kind.
func (s *side) things(kind string) []string {
	switch kind {
	case "task":
		return s.tasks
	case "target":
		return append(slices.Clone(s.tasks), s.gateway, s.pool, s.tenant, s.keyID, s.userID, s.session)
	case "topic":
		return []string{"task." + s.tasks[0] + ".*", "task." + s.tasks[1] + ".*", "gateway." + s.gateway + ".*", "session." + s.session + ".*"}
	}
	return map[string][]string{
		"tenant": {s.tenant}, "pool": {s.tenant, s.pool, s.off}, "session": {s.session}, "gateway": {s.gateway}, "email": {s.email}, "url": {s.link}, "label": {s.label, s.label + ":alpha"},
		"code": {s.code}, "actor": {"key:" + s.keyID}, "key": {s.keyID}, "user": {s.userID},
	}[kind]
}

// never is a thing of the same form that never was.
func (w *world) never(thing string) string {
	w.made++
	thing = strings.ReplaceAll(thing, "alpha", fmt.Sprintf("an%04d", w.made))
	thing = strings.ReplaceAll(thing, w.alpha.keyID, fmt.Sprintf("abcd%04d", w.made)+"abcd")
	for _, id := range append(slices.Clone(w.alpha.tasks), w.alpha.userID) {
		thing = strings.ReplaceAll(thing, id, messages.NewID())
	}
	return thing
}

// live is what a gateway's owner says of it, while it goes on.
var live = regexp.MustCompile(`"(state|since|reason|next_step|openclaw_version|owner|window|running|restarts|boot_id|pid)":("(?:[^"\\]|\\.)*"|null|\d+)`)

// reply is an answer.
type reply struct {
	status int
	header http.Header
	body   string
}

func (w *world) do(key messages.Secret, method, path string, header map[string]string, body map[string]any) reply {
	w.t.Helper()
	req := w.request(key, method, path, header, body)
	resp, err := http.DefaultTransport.RoundTrip(req)
	w.must(err)
	b, err := io.ReadAll(resp.Body)
	w.must(errors.Join(err, resp.Body.Close()))
	return reply{resp.StatusCode, resp.Header, string(b)}
}

func (w *world) request(key messages.Secret, method, path string, header map[string]string, body map[string]any) *http.Request {
	var text io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		w.must(err)
		text = strings.NewReader(string(b))
	}
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.a.URL()+"/api/v1"+path, text)
	w.must(err)
	req.Header.Set("Authorization", "Bearer "+key.Reveal())
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	return req
}

// masks are what is new in each answer.
var masks = []*regexp.Regexp{
	regexp.MustCompile(`dash_[a-z0-9]+_[A-Za-z0-9_-]+`), regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`),
	regexp.MustCompile(`20\d\d-\d\d-\d\dT[0-9:.]+Z`), regexp.MustCompile(`fresh-[a-z]+-\d+`), regexp.MustCompile(`"id":"[a-z2-7]{12}"|/keys/[a-z2-7]{12}`),
	regexp.MustCompile(`"queue_seq":\d+|"seq":\d+|"rows":\d+|"head":"[0-9a-f]+"|"depth":\d+|"bytes":\d+|"oldest_age_seconds":[0-9.e-]+`), regexp.MustCompile(`"request_id":"[^"]+"|"generation":\d+`),
}

func (r reply) masked(asked string) string {
	text := fmt.Sprintln(r.status)
	for _, k := range []string{"Content-Type", "Location", "Etag", "Retry-After", "Link", "Allow", "Idempotent-Replayed"} {
		if v := r.header.Get(k); v != "" {
			text += k + ": " + v + "\n"
		}
	}
	text = strings.NewReplacer(asked, "<asked>", url.QueryEscape(asked), "<asked>").Replace(text + r.body)
	if strings.Contains(text, `"openclaw_version"`) {
		text = live.ReplaceAllString(text, "*")
	}
	for _, m := range masks {
		text = m.ReplaceAllString(text, "*")
	}
	return text
}

// leaks names something of alpha's in an answer to bravo who asked for one thing.
func (w *world) leaks(r reply, asked string) string {
	text := strings.ReplaceAll(fmt.Sprint(r.header, r.body), asked, "")
	for _, own := range append(slices.Clone(w.alpha.tasks), "alpha", w.alpha.keyID, w.alpha.userID) {
		if !strings.Contains(asked, own) && strings.Contains(text, own) {
			return own
		}
	}
	return ""
}

// state is all that alpha has, as the operator sees it.
func (w *world) state() string {
	var all strings.Builder
	for _, path := range []string{"/tasks?include=bodies&tenant=", "/gateways?tenant=", "/sessions?tenant=", "/pools?", "/keys?", "/users?", "/tenants?"} {
		if strings.HasSuffix(path, "tenant=") {
			path += w.alpha.tenant + "&"
		}
		var list struct{ Items []map[string]any }
		w.must(json.Unmarshal([]byte(w.do(w.root, "GET", path+"limit=1000", nil, nil).body), &list))
		for _, item := range list.Items {
			delete(item, "last_used_at")
			if text := fmt.Sprint(item); strings.Contains(text, "alpha") {
				all.WriteString(text + "\n")
			}
		}
	}
	return all.String()
}

// place is where an operation can name something.
type place struct{ in, name string }

func (p place) String() string {
	if p.in == "body" {
		return p.name
	}
	return p.in + ":" + p.name
}

// leaf is the name that says what is named there.
func (p place) leaf() string {
	parts := strings.Split(strings.TrimSuffix(p.name, "/*"), "/")
	return parts[len(parts)-1]
}

// places are those of an operation that hold free text.
func places(item *openapi3.PathItem, op *openapi3.Operation) (all []place) {
	free := func(s *openapi3.Schema) bool {
		for s.Type.Is("array") {
			s = s.Items.Value
		}
		return (s.Type == nil || s.Type.Is("string") || s.Type.Is("object") && len(s.Properties) == 0) && len(s.Enum) == 0 && s.Format != "date-time"
	}
	for _, ref := range append(slices.Clone(item.Parameters), op.Parameters...) {
		if p := ref.Value; free(p.Schema.Value) {
			all = append(all, place{p.In, p.Name})
		}
	}
	var walk func(at string, s *openapi3.Schema)
	walk = func(at string, s *openapi3.Schema) {
		for _, part := range s.AllOf {
			walk(at, part.Value)
		}
		for name, p := range s.Properties {
			walk(at+"/"+name, p.Value)
		}
		if len(s.Properties)+len(s.AllOf) == 0 && free(s) {
			all = append(all, place{"body", at})
		}
	}
	if op.RequestBody != nil {
		walk("", op.RequestBody.Value.Content["application/json"].Schema.Value)
	}
	slices.SortFunc(all, func(a, b place) int { return strings.Compare(a.String(), b.String()) })
	return all
}

// operation is one of the document.
type operation struct {
	id, method, path string
	places           []place
}

func operations(t *testing.T) (all []operation) {
	doc, err := openapi3.NewLoader().LoadFromData(api.Document)
	if err != nil {
		t.Fatal(err)
	}
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			all = append(all, operation{op.OperationID, method, path, places(item, op)})
		}
	}
	// What bravo is refused later is in its own audit log, and a session of alpha's
	// id may well be bravo's, too.
	order := map[string]int{"listAudit": -1, "createSession": 1, "submitTask": 2}
	slices.SortFunc(all, func(a, b operation) int { return cmp.Or(order[a.id]-order[b.id], strings.Compare(a.id, b.id)) })
	return all
}

// kind is what is named at a place; empty: nothing of a tenant.
func (o operation) kind(t *testing.T, p place) string {
	if plain[o.id+" "+p.String()] != "" || plain[p.leaf()] != "" {
		return ""
	}
	k := kinds[p.leaf()]
	if p.leaf() == "id" {
		k = idKinds[strings.Split(o.path, "/")[1]]
	}
	if k == "" {
		t.Errorf("%s %s may name a thing, and the matrix does not say what: add it to kinds or to plain", o.id, p)
	}
	return k
}

// call calls an operation as a side with its own things, but for one place.
func (w *world) call(s *side, o operation, r row, at place, value string) reply {
	w.t.Helper()
	path, query, header := o.path, url.Values{}, maps.Clone(r.header)
	if header == nil {
		header = map[string]string{}
	}
	var body map[string]any
	if r.body != nil {
		body = r.body(s)
	}
	id := value
	if at.in != "path" && r.id != nil {
		id = r.id(s)
	}
	path = regexp.MustCompile(`\{[a-z]+\}`).ReplaceAllLiteralString(path, url.PathEscape(id))
	switch at.in {
	case "query":
		query.Set(at.name, value)
	case "header":
		header[at.name] = value
	case "body":
		into := body
		parts := strings.Split(at.name, "/")[1:]
		for _, p := range parts[:len(parts)-1] {
			into = into[p].(map[string]any)
		}
		into[parts[len(parts)-1]] = value
	}
	if o.id == "streamEvents" {
		return w.stream(s, o.path+"?since=0&topics="+url.QueryEscape(value), value)
	}
	return w.do(s.key, o.method, path+"?"+query.Encode(), header, body)
}

// stream reads the log from its begin to a session that is made meanwhile.
func (w *world) stream(s *side, path, topics string) reply {
	w.t.Helper()
	marker := w.fresh("s")
	resp, err := http.DefaultTransport.RoundTrip(w.request(s.key, "GET", path+",session."+marker+".*", nil, nil))
	w.must(err)
	_, err = w.c.sessions().Create(w.t.Context(), messages.Session{ID: marker, Tenant: s.tenant, Pool: s.pool})
	w.must(err)
	out, buf := reply{status: resp.StatusCode, header: resp.Header}, make([]byte, 4096)
	for !strings.Contains(out.body, marker) {
		n, err := resp.Body.Read(buf)
		w.must(err)
		out.body += string(buf[:n])
	}
	w.must(resp.Body.Close())
	lines := slices.Collect(strings.Lines(out.body)) // ids without data, and heartbeats, come when they come
	out.body = strings.Join(slices.DeleteFunc(lines, func(l string) bool { return !strings.HasPrefix(l, "data:") }), "")
	return out
}

// TestNothingOfAnotherTenantIsThere is the matrix.
func TestNothingOfAnotherTenantIsThere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ops, cells := operations(t), 0
	known := map[string]bool{}
	before := w.state()
	cells += w.socket()
	for _, o := range ops {
		known[o.id] = true
		if rows[o.id] == nil {
			t.Errorf("the operation %s has no row in the matrix", o.id)
		}
		for _, p := range o.places {
			kind := o.kind(t, p)
			if kind == "" || kind == "idempotency" {
				continue
			}
			for _, r := range rows[o.id] {
				if p.in == "body" && !r.takes(o, p) {
					continue
				}
				for _, alphas := range w.values(kind, o, r) {
					cells++
					w.compare(o, r, p, alphas[0], alphas[1])
				}
			}
			if now := w.state(); now != before {
				t.Errorf("%s %s changed what alpha has: %s", o.id, p, gocmp.Diff(strings.Split(before, "\n"), strings.Split(now, "\n")))
				before = now
			}
		}
	}
	for id := range rows {
		if !known[id] {
			t.Errorf("the matrix has %s, which the document has not", id)
		}
	}
	cells += w.idempotency(ops)
	t.Logf("%d operations, %d cells", len(ops), cells)
}

// takes reports whether a row's body may hold the place.
func (r row) takes(o operation, p place) bool {
	return r.name != "move" || p.leaf() != "url"
}

// values are things of alpha, each with one that never was.
func (w *world) values(kind string, o operation, r row) (pairs [][2]string) {
	if kind == "cursor" {
		return w.cursors(o, r)
	}
	for _, thing := range w.alpha.things(kind) {
		pairs = append(pairs, [2]string{thing, w.never(thing)})
	}
	return pairs
}

// cursors are those that alpha got, each with one to a place that never was.
func (w *world) cursors(o operation, r row) (pairs [][2]string) {
	path := o.path
	if r.id != nil {
		path = strings.Replace(path, "{id}", r.id(w.alpha), 1)
	}
	for _, limit := range []string{"1", "2"} {
		var list struct {
			Next string `json:"next_cursor"`
		}
		w.must(json.Unmarshal([]byte(w.do(w.alpha.key, o.method, path+"?limit="+limit, nil, nil).body), &list))
		if list.Next == "" {
			continue
		}
		raw, err := base64.RawURLEncoding.DecodeString(list.Next)
		w.must(err)
		other := []byte(w.never(string(raw)))
		pairs = append(pairs, [2]string{list.Next, base64.RawURLEncoding.EncodeToString(other)})
	}
	return pairs
}

func (w *world) compare(o operation, r row, p place, alphas, nobodys string) {
	w.t.Helper()
	what := strings.Join(strings.Fields(o.id+" "+r.name+" "+p.String()), " ")
	of, never := w.call(w.bravo, o, r, p, alphas), w.call(w.bravo, o, r, p, nobodys)
	if own := w.leaks(of, alphas); own != "" {
		w.t.Errorf("%s = %s tells bravo of %s:\n%s", what, alphas, own, of.body)
	}
	got, want := of.masked(alphas), never.masked(nobodys)
	if words := takenAt[what]; words != "" {
		if of.status != http.StatusConflict || !strings.Contains(got, words) || never.status >= 300 {
			w.t.Errorf("%s = %s:\n%s\nwant 409 and %s; for a new one:\n%s", what, alphas, got, words, want)
		}
		return
	}
	if got != want {
		w.t.Errorf("%s = %s:\n%s\nof one that never was:\n%s", what, alphas, got, want)
	}
}

// idempotency has alpha and then bravo use a key, and bravo a key that nobody used.
func (w *world) idempotency(ops []operation) (cells int) {
	w.t.Helper()
	for _, o := range ops {
		p := place{"header", "Idempotency-Key"}
		if !slices.Contains(o.places, p) {
			continue
		}
		for _, r := range rows[o.id] {
			used := "alpha-" + w.fresh("once")
			w.call(w.alpha, o, r, p, used)
			w.compare(o, r, p, used, w.never(used))
			cells++
		}
	}
	return cells
}

// socket asks for alpha's topics over the WebSocket, which the document tells of in words.
func (w *world) socket() (cells int) {
	w.t.Helper()
	ctx, marker := w.t.Context(), w.fresh("s")
	conn, _, err := websocket.Dial(ctx, strings.Replace(w.a.URL(), "http", "ws", 1)+"/events", &websocket.DialOptions{
		HTTPHeader: http.Header{"Authorization": {"Bearer " + w.bravo.key.Reveal()}},
	})
	w.must(err)
	defer func() { _ = conn.CloseNow() }()
	topics := append(w.alpha.things("topic"), "session."+marker+".*")
	w.must(wsjson.Write(ctx, conn, map[string]any{"type": "subscribe", "topics": topics, "since": 0}))
	_, err = w.c.sessions().Create(ctx, messages.Session{ID: marker, Tenant: w.bravo.tenant, Pool: w.bravo.pool})
	w.must(err)
	for {
		_, b, err := conn.Read(ctx)
		w.must(err)
		text := string(b)
		if strings.Contains(text, `"subscribed"`) { // says the topics again
			continue
		}
		if own := w.leaks(reply{body: text}, "-"); own != "" {
			w.t.Errorf("a WebSocket tells bravo of %s: %s", own, text)
		}
		if strings.Contains(text, marker) {
			return len(topics) - 1
		}
	}
}
