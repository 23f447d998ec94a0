package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

// curls are the document's examples of an operation as lines for a shell, in
// which the variables of the command line are set. The tests of the document run
// the same examples.
func curls(op docsOperation, o *openapi3.Operation, params openapi3.Parameters, prefix string) ([]string, error) {
	url := prefix + op.Path
	if strings.HasPrefix(prefix, "/") {
		url = "$DASH_URL" + url
	}
	line := "curl -s"
	if r := o.Responses.Status(http.StatusOK); r != nil && r.Value.Content.Get("text/event-stream") != nil {
		line = "curl -sN"
	}
	var headers string
	if op.Access != "public" {
		headers = ` -H "Authorization: Bearer $DASH_API_KEY"`
	}
	sign := "?"
	for _, ref := range params {
		p := ref.Value
		if p.Example == nil {
			continue
		}
		switch value := word(p.Example); p.In {
		case openapi3.ParameterInPath:
			url = strings.ReplaceAll(url, "{"+p.Name+"}", value)
		case openapi3.ParameterInQuery:
			url += sign + p.Name + "=" + value
			sign = "&"
		case openapi3.ParameterInHeader:
			headers += " -H '" + p.Name + ": " + value + "'"
		}
	}
	bodies := examples(o)
	if op.Method != http.MethodGet && (op.Method != http.MethodPost || len(bodies) == 0) {
		line += " -X " + op.Method
	}
	line += ` "` + url + `"` + headers
	if len(bodies) == 0 {
		return []string{line}, nil
	}
	var out []string
	for _, body := range bodies {
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if err := e.Encode(body); err != nil {
			return nil, fmt.Errorf("write an example of %s: %w", op.ID, err)
		}
		text := strings.ReplaceAll(strings.TrimSpace(b.String()), "'", `'\''`)
		out = append(out, line+" -H 'Content-Type: application/json' -d '"+text+"'")
	}
	return out, nil
}

// word is an example's value as it stands in a URL or a header.
func word(v any) string {
	if list, ok := v.([]any); ok {
		parts := make([]string, len(list))
		for i, p := range list {
			parts[i] = word(p)
		}
		return strings.Join(parts, ",")
	}
	return fmt.Sprint(v)
}

// examples are the bodies that an operation's description gives, in order of
// their names.
func examples(o *openapi3.Operation) []any {
	if o.RequestBody == nil {
		return nil
	}
	media := o.RequestBody.Value.Content.Get("application/json")
	if media.Example != nil {
		return []any{media.Example}
	}
	var out []any
	for _, name := range slices.Sorted(maps.Keys(media.Examples)) {
		out = append(out, media.Examples[name].Value.Value)
	}
	return out
}
