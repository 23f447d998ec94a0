package server

import (
	"bytes"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"
)

type place struct{ Path, What string }

// places are what somebody looks for who has only the address of a node.
var places = []place{
	{prefix + "/docs", "the API in words"},
	{prefix + "/openapi.json", "the same for programs"},
	{prefix + "/tasks", "tasks; send `Authorization: Bearer dash_…`, as for all of " + prefix},
	{prefix + "/events", "server-sent events"},
	{"/events", "the same over WebSocket"},
	{"/health", "whether this node takes work"},
	{"/metrics", "for Prometheus"},
}

var rootPage = template.Must(template.New("root").Parse(`<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Dash</title>
<style>:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}td{padding:.2rem .8rem .2rem 0}</style></head><body>
<h1>Dash {{.Version}}</h1><p>This node answers the API of a fleet of OpenClaw gateways.</p>
<table>{{range .Places}}<tr><td><a href="{{.Path}}"><code>{{.Path}}</code></a></td><td>{{.What}}</td></tr>{{end}}</table>
<p>On the command line: <code>dash help</code>.</p></body></html>
`))

// getRoot says what is where, to a browser as a page.
func (s *Server) getRoot(c *call) error {
	c.w.Header().Add("Vary", "Accept")
	places := slices.Clone(places)
	for i := range places {
		places[i].Path = s.link(places[i].Path)
	}
	if strings.Contains(c.r.Header.Get("Accept"), "text/html") {
		var page bytes.Buffer
		if err := rootPage.Execute(&page, map[string]any{"Version": s.cfg.Version, "Places": places}); err != nil {
			return err
		}
		c.w.Header()["Content-Security-Policy"] = hdrPageCSP
		c.bytes(http.StatusOK, "text/html; charset=utf-8", page.Bytes())
		return nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Dash %s: this node answers the API of a fleet of OpenClaw gateways.\n\n", s.cfg.Version)
	for _, p := range places {
		fmt.Fprintf(&b, "  %-*s %s\n", len(s.cfg.PublicURL)+22, p.Path, p.What)
	}
	b.WriteString("\nOn the command line: dash help\n")
	c.bytes(http.StatusOK, "text/plain; charset=utf-8", []byte(b.String()))
	return nil
}
