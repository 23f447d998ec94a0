package server_test

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"pgregory.net/rapid"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/messages"
)

func TestDocumentIsValid(t *testing.T) {
	t.Parallel()
	if err := testDoc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestRequestBodiesAreStrict(t *testing.T) {
	t.Parallel()
	var walk func(at string, s *openapi3.SchemaRef)
	walk = func(at string, s *openapi3.SchemaRef) {
		v := s.Value
		if v.Type.Is("object") && (v.AdditionalProperties.Has == nil || *v.AdditionalProperties.Has) && v.AdditionalProperties.Schema == nil {
			if !strings.HasSuffix(at, "managed.config") { // OpenClaw's own configuration
				t.Errorf("%s takes unknown fields", at)
			}
		}
		for name, p := range v.Properties {
			walk(at+"."+name, p)
		}
		if v.Items != nil {
			walk(at+"[]", v.Items)
		}
	}
	for _, item := range testDoc.Paths.Map() {
		for _, op := range item.Operations() {
			if op.RequestBody != nil {
				walk(op.OperationID, op.RequestBody.Value.Content.Get("application/json").Schema)
			}
		}
	}
}

// Every operation is called as its examples say, under both prefixes, and must
// succeed; the transport checks that the answers fit the document.
func TestEveryExampleWorks(t *testing.T) {
	t.Parallel()
	for path, item := range testDoc.Paths.Map() {
		for method, op := range item.Operations() {
			for name, body := range bodies(t, op) {
				for _, prefix := range []string{"/api/v1", "/api"} {
					t.Run(op.OperationID+"/"+name+strings.ReplaceAll(prefix, "/", "_"), func(t *testing.T) {
						t.Parallel()
						example(t, method, prefix, path, item, op, body)
					})
				}
			}
		}
	}
}

func bodies(t *testing.T, op *openapi3.Operation) map[string]string {
	if op.RequestBody == nil {
		return map[string]string{"none": ""}
	}
	media := op.RequestBody.Value.Content.Get("application/json")
	out := map[string]string{}
	add := func(name string, v any) {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out[name] = string(b)
	}
	if media.Example != nil {
		add("example", media.Example)
	}
	for name, e := range media.Examples {
		add(name, e.Value.Value)
	}
	if len(out) == 0 {
		t.Errorf("%s has no example", op.OperationID)
	}
	return out
}

func example(t *testing.T, method, prefix, path string, item *openapi3.PathItem, op *openapi3.Operation, body string) {
	exampleOn(t, method, prefix, path, item, op, body, func(*node) {})
}

// exampleOn calls an operation as its example says and then looks at the node.
func exampleOn(t *testing.T, method, prefix, path string, item *openapi3.PathItem, op *openapi3.Operation, body string, look func(*node)) {
	n := start(t, server.Config{})
	defer func() { look(n) }()
	query, header := url.Values{}, []string{}
	target := path
	for _, ref := range slices.Concat(item.Parameters, op.Parameters) {
		p := ref.Value
		if p.Example == nil {
			continue
		}
		v := fmt.Sprint(p.Example)
		if l, ok := p.Example.([]any); ok {
			v = strings.Trim(strings.ReplaceAll(fmt.Sprint(l), " ", ","), "[]")
		}
		switch p.In {
		case "path":
			target = strings.ReplaceAll(target, "{"+p.Name+"}", v)
		case "query":
			query.Set(p.Name, v)
		case "header":
			header = append(header, p.Name, v)
		}
	}
	if op.OperationID == "putPool" {
		target = "/pools/new" // the example creates
	}
	if strings.HasPrefix(op.OperationID, "stream") {
		streamExample(t, n, prefix+target)
		return
	}
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	resp, answer := n.call(method, prefix+target, admin, body, header...)
	if resp.StatusCode >= 300 {
		t.Fatalf("%s %s answers %d: %s", method, target, resp.StatusCode, answer)
	}
	if op.Responses.Value(fmt.Sprint(resp.StatusCode)) == nil {
		t.Errorf("%s %s answers %d, which is not documented", method, target, resp.StatusCode)
	}
	deprecated := resp.Header.Get("Deprecation") != ""
	link := resp.Header.Get("Link")
	if want := prefix == "/api"; deprecated != want || strings.Contains(link, "successor-version") != want {
		t.Errorf("%s: Deprecation %v, Link %q", prefix, deprecated, link)
	}
	if prefix == "/api" && !strings.HasPrefix(link, "</api/v1/") {
		t.Errorf("link %q", link)
	}
}

func streamExample(t *testing.T, n *node, target string) {
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, n.base+target, nil)
	req.Header.Set("Authorization", "Bearer "+admin)
	resp, err := n.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%d %s", resp.StatusCode, resp.Header.Get("Content-Type"))
	}
}

func TestClientCoversTheDocument(t *testing.T) {
	t.Parallel()
	notForPrograms := []string{"getOpenAPI", "getDocs", "getErrorDocs", "getHealth"}
	client := reflect.TypeFor[*api.Client]()
	for _, item := range testDoc.Paths.Map() {
		for _, op := range item.Operations() {
			name := strings.ToUpper(op.OperationID[:1]) + op.OperationID[1:]
			if _, ok := client.MethodByName(name); !ok && !slices.Contains(notForPrograms, op.OperationID) {
				t.Errorf("the client has no method %s", name)
			}
		}
	}
}

// Every code that package messages calls a code of a refused request has a
// status and a page.
func TestEveryCodeHasItsPage(t *testing.T) {
	t.Parallel()
	src, err := os.ReadFile("../../messages/errors.go")
	if err != nil {
		t.Fatal(err)
	}
	refusals, _, ok := strings.Cut(string(src), "// Codes of failed attempts")
	if !ok {
		t.Fatal("messages/errors.go has another layout")
	}
	codes := regexp.MustCompile(`Code = "([a-z_]+)"`).FindAllStringSubmatch(refusals, -1)
	if len(codes) < 17 {
		t.Fatalf("found only %d codes", len(codes))
	}
	n := start(t, server.Config{})
	for _, c := range codes {
		if resp, _ := n.call("GET", "/api/v1/docs/errors/"+c[1], "", ""); resp.StatusCode != http.StatusOK {
			t.Errorf("code %s has no page: %d", c[1], resp.StatusCode)
		}
	}
}

// TestPatternsAreSaidInWords: nobody is shown a regular expression, and the
// document's rule for ids is the one of package messages.
func TestPatternsAreSaidInWords(t *testing.T) {
	t.Parallel()
	for i, line := range strings.Split(string(api.Document), "\n") {
		if strings.Contains(line, " pattern: ") && !strings.Contains(line, "x-says") {
			if next := strings.Split(string(api.Document), "\n")[i+1]; !strings.Contains(next, "x-says: ") {
				t.Errorf("line %d: a pattern without x-says", i+1)
			}
		}
	}
	id := testDoc.Components.Schemas["Id"].Value
	if id.Extensions["x-says"] != messages.ErrBadID.Error() {
		t.Errorf("%v", id.Extensions["x-says"])
	}
	rule := regexp.MustCompile(id.Pattern)
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringOfN(rapid.SampledFrom([]rune(".._:-aZ9 /%é")), 0, 130, -1).Draw(t, "id")
		if rule.MatchString(s) != (messages.CheckID(s) == nil) {
			t.Fatalf("document and code disagree about %q", s)
		}
	})
	for n := range 131 {
		for _, s := range []string{strings.Repeat(".", n), strings.Repeat("a", n), "." + strings.Repeat("a", n), ".." + strings.Repeat("a", n)} {
			if rule.MatchString(s) != (messages.CheckID(s) == nil) {
				t.Errorf("document and code disagree about %q", s)
			}
		}
	}
}

// TestDefaultsAreTheDocuments holds what a task gets equal to what the document says.
func TestDefaultsAreTheDocuments(t *testing.T) {
	t.Parallel()
	for schema, fields := range map[string]map[string]float64{
		"Backoff": {
			"initial_seconds": messages.DefaultBackoffInitial, "max_seconds": messages.DefaultBackoffMax,
			"factor": messages.DefaultBackoffFactor, "jitter": messages.DefaultBackoffJitter,
		},
		"SubmitTask":  {"max_attempts": float64(messages.DefaultMaxAttempts)},
		"SubmitInput": {"timeout_seconds": float64(messages.DefaultTimeoutSeconds)},
		"SendMessage": {"max_attempts": float64(messages.DefaultMaxAttempts), "timeout_seconds": float64(messages.DefaultTimeoutSeconds)},
	} {
		for name, want := range fields {
			if got := testDoc.Components.Schemas[schema].Value.Properties[name].Value.Default; got != want {
				t.Errorf("%s.%s: the document says %v, a task gets %v", schema, name, got, want)
			}
		}
	}
}

// constants are the values of a file's constants of a type.
func constants(t *testing.T, file, typ string) (values []string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		c, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if id, ok := c.Type.(*ast.Ident); !ok || id.Name != typ {
			return true
		}
		v, err := strconv.Unquote(c.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		values = append(values, v)
		return true
	})
	if len(values) == 0 {
		t.Fatalf("%s has no constants of type %s", file, typ)
	}
	return values
}

// TestWaitingCodesOfTheDocument: the closed set is the same in the code and in the
// document, which says of each what it means and when it ends.
func TestWaitingCodesOfTheDocument(t *testing.T) {
	t.Parallel()
	code := testDoc.Components.Schemas["Task"].Value.Properties["waiting_code"].Value
	var documented []string
	known := constants(t, "../../messages/waiting.go", "WaitingCode")
	for _, v := range code.Enum {
		documented = append(documented, v.(string))
	}
	for _, c := range known {
		if n := len(regexp.MustCompile("(?m)^\\| `"+c+"` \\|[^|]{5,}\\|[^|]{5,}\\|$").FindAllString(code.Description, -1)); n != 1 {
			t.Errorf("the document explains %s %d times", c, n)
		}
	}
	slices.Sort(documented)
	slices.Sort(known)
	if !slices.Equal(documented, known) {
		t.Errorf("the document knows %v, the code %v", documented, known)
	}
	if n := strings.Count(code.Description, "\n| `"); n != len(known) {
		t.Errorf("the document explains %d codes, want %d", n, len(known))
	}
}
