package server

import (
	"fmt"
	"net/http"
	"sort"
	"strings"

	"github.com/julienschmidt/httprouter"

	"github.com/dash-fleet/dash/http/auth"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

// The prefix of the API and its deprecated alias.
const (
	prefix      = "/api/v1"
	aliasPrefix = "/api"
	routeNone   = "none" // the metric label of requests that no route took
)

// kind decides which bound on requests in flight counts.
type kind uint8

const (
	ordinary kind = iota
	waiting
	streaming
	probing
	hashing // a password or a key's text
)

// handler answers a call; an error it returns is answered as a problem.
type handler func(c *call) error

// endpoint is what is registered for an operation of the document.
type endpoint struct {
	access  auth.Access
	handler handler
	kind    kind
	// durable: its command keeps the Idempotency-Key itself.
	durable bool
	// root: also served without a prefix.
	root bool
	// again shows what a write changed, for who repeats it with its Idempotency-Key
	// when the answer was too long to be kept; nil: its answers are short.
	again handler
}

// route is an endpoint at one path.
type route struct {
	endpoint
	op         *operation
	template   string
	alias      bool
	replayable bool // its answers are remembered by Idempotency-Key
}

// endpoints lists every operation of the document by its id.
func (s *Server) endpoints() map[string]endpoint {
	need := auth.Need
	return map[string]endpoint{
		"submitTask":        {access: need(auth.TasksWrite), handler: s.submitTask, durable: true},
		"listTasks":         {access: need(auth.TasksRead), handler: s.listTasks},
		"getTask":           {access: need(auth.TasksRead), handler: s.getTask},
		"cancelTask":        {access: need(auth.TasksWrite), handler: s.cancelTask, again: s.getTask},
		"replayTask":        {access: need(auth.TasksWrite), handler: s.replayTask, again: s.getTask},
		"releaseTask":       {access: need(auth.TasksWrite), handler: s.releaseTask, again: s.getTask},
		"streamTask":        {access: need(auth.TasksRead), handler: s.streamTask, kind: streaming},
		"replayDeadLetters": {access: need(auth.TasksWrite), handler: s.replayDeadLetters},
		"getQueue":          {access: need(auth.TasksRead), handler: s.getQueue},

		"createGateway":  {access: need(auth.GatewaysWrite), handler: s.createGateway, again: s.getGateway},
		"listGateways":   {access: need(auth.GatewaysRead), handler: s.listGateways},
		"getGateway":     {access: need(auth.GatewaysRead), handler: s.getGateway},
		"updateGateway":  {access: need(auth.GatewaysWrite), handler: s.updateGateway, again: s.getGateway},
		"deleteGateway":  {access: need(auth.GatewaysWrite), handler: s.deleteGateway},
		"drainGateway":   {access: need(auth.GatewaysWrite), handler: s.changeGateway(s.cmd.Gateways.Drain), again: s.getGateway},
		"resumeGateway":  {access: need(auth.GatewaysWrite), handler: s.changeGateway(s.cmd.Gateways.Resume), again: s.getGateway},
		"restartGateway": {access: need(auth.GatewaysWrite), handler: s.changeGateway(s.cmd.Gateways.Restart), again: s.getGateway},

		"createSession": {access: need(auth.SessionsWrite), handler: s.createSession, again: s.getSession},
		"listSessions":  {access: need(auth.SessionsRead), handler: s.listSessions},
		"getSession":    {access: need(auth.SessionsRead), handler: s.getSession},
		"closeSession":  {access: need(auth.SessionsWrite), handler: s.closeSession},
		"sendMessage":   {access: need(auth.TasksWrite), handler: s.sendMessage, durable: true},
		"getTranscript": {access: need(auth.SessionsRead), handler: s.getTranscript},
		"moveSession":   {access: need(auth.SessionsWrite), handler: s.moveSession, again: s.getSession},
		"resumeSession": {access: need(auth.SessionsWrite), handler: s.resumeSession, again: s.getSession},

		"listPools":  {access: need(auth.PoolsRead), handler: s.listPools},
		"getPool":    {access: need(auth.PoolsRead), handler: s.getPool},
		"putPool":    {access: need(auth.PoolsWrite), handler: s.putPool},
		"deletePool": {access: need(auth.PoolsWrite), handler: s.deletePool},
		"listNodes":  {access: need(auth.NodesRead), handler: s.listNodes},

		"createKey":    {access: need(auth.Admin), handler: s.createKey, kind: hashing},
		"listKeys":     {access: need(auth.Admin), handler: s.listKeys},
		"getKey":       {access: need(auth.Admin), handler: s.getKey},
		"revokeKey":    {access: need(auth.Admin), handler: s.revokeKey},
		"createUser":   {access: need(auth.Admin), handler: s.createUser, kind: hashing},
		"listUsers":    {access: need(auth.Admin), handler: s.listUsers},
		"getUser":      {access: need(auth.Admin), handler: s.getUser},
		"updateUser":   {access: need(auth.Admin), handler: s.updateUser, kind: hashing},
		"deleteUser":   {access: need(auth.Admin), handler: s.deleteUser},
		"createTenant": {access: need(auth.Admin), handler: s.createTenant},
		"listTenants":  {access: need(auth.Admin), handler: s.listTenants},
		"listAudit":    {access: need(auth.Admin), handler: s.listAudit},
		"verifyAudit":  {access: need(auth.Admin), handler: s.verifyAudit},

		"streamEvents": {access: need(auth.EventsRead), handler: s.streamEvents, kind: streaming},

		"getOpenAPI":   {access: auth.Public(), handler: s.getOpenAPI},
		"getDocs":      {access: auth.Public(), handler: s.getDocs},
		"getErrorDocs": {access: auth.Public(), handler: s.getErrorDocs},
		"getHealth":    {access: auth.Public(), handler: s.getReady, kind: probing, root: true},
		"getLive":      {access: auth.Public(), handler: s.getLive, kind: probing, root: true},
		"getReady":     {access: auth.Public(), handler: s.getReady, kind: probing, root: true},
	}
}

// link is where a client finds a path of this server.
func (s *Server) link(path string) string { return s.cfg.PublicURL + path }

// routes builds the router from the document and the endpoints.
func (s *Server) routes() (*httprouter.Router, error) {
	r := httprouter.New()
	r.RedirectTrailingSlash, r.RedirectFixedPath = false, false
	r.NotFound = s.fallback(messages.CodeNotFound, "there is no such path", fmt.Sprintf(next.ListPaths, s.link(prefix)))
	r.MethodNotAllowed = s.fallback(codeMethod, "this path does not know the method", next.SeeAllow)
	r.GlobalOPTIONS = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusNoContent)
		s.metrics.observe(routeNone, r.Method, http.StatusNoContent, 0)
	})

	endpoints := s.endpoints()
	if err := agree(s.doc, endpoints); err != nil {
		return nil, err
	}
	for id, e := range endpoints {
		op := s.doc.ops[id]
		s.register(r, e, op, prefix+op.path, false)
		s.register(r, e, op, aliasPrefix+op.path, true)
		if e.root {
			s.register(r, e, op, op.path, false)
		}
	}
	watch := &operation{id: "watchEvents", query: s.doc.ops["streamEvents"].query}
	s.register(r, endpoint{access: auth.InBand(auth.EventsRead), handler: s.watchEvents, kind: streaming}, withMethod(watch, http.MethodGet), "/events", false)
	s.register(r, endpoint{access: auth.Public(), handler: s.getRoot, kind: probing}, withMethod(&operation{id: "getRoot"}, http.MethodGet), "/", false)
	access := auth.Need(auth.MetricsRead)
	if s.cfg.PublicMetrics {
		access = auth.Public()
	}
	s.register(r, endpoint{access: access, handler: s.getMetrics, kind: probing}, withMethod(&operation{id: "getMetrics"}, http.MethodGet), "/metrics", false)
	return r, nil
}

func withMethod(op *operation, method string) *operation {
	op.method = method
	return op
}

// agree refuses to start when document and code tell different stories.
func agree(doc *document, endpoints map[string]endpoint) error {
	var wrong []string
	for id, op := range doc.ops {
		e, ok := endpoints[id]
		switch {
		case !ok:
			wrong = append(wrong, id+": documented, but has no handler")
		case op.public != e.access.IsPublic():
			wrong = append(wrong, id+": document and code disagree whether it is public")
		case op.need != string(e.access.Permission()):
			wrong = append(wrong, id+": document and code disagree about its permission")
		case len(op.ids) > 1:
			wrong = append(wrong, id+": has more than one path parameter")
		}
	}
	for id := range endpoints {
		if doc.ops[id] == nil {
			wrong = append(wrong, id+": has a handler, but is not documented")
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	sort.Strings(wrong)
	return fmt.Errorf("server: %s", strings.Join(wrong, "; "))
}

func (s *Server) register(r *httprouter.Router, e endpoint, op *operation, path string, alias bool) {
	rt := &route{endpoint: e, op: op, template: path, alias: alias}
	rt.replayable = !e.durable && op.method != http.MethodGet
	path = strings.NewReplacer("{", ":", "}", "").Replace(path)
	h := func(w http.ResponseWriter, req *http.Request, ps httprouter.Params) {
		param := ""
		if len(ps) > 0 {
			param = ps[0].Value
		}
		s.serveRoute(rt, w, req, param)
	}
	r.Handle(op.method, path, h)
	if op.method == http.MethodGet && e.kind != streaming {
		r.Handle(http.MethodHead, path, h)
	}
}

// fallback answers what no route took.
func (s *Server) fallback(code messages.Code, why, next string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &call{s: s, w: w, r: r, route: routeNone, id: w.Header()["X-Request-Id"][0]}
		c.problem(&messages.Error{Code: code, Message: why, NextStep: next})
		s.metrics.observe(routeNone, r.Method, c.status, 0)
	})
}
