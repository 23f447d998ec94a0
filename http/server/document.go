package server

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/messages"
)

// operation is one operation of the document, ready for checking requests.
type operation struct {
	id       string
	method   string
	path     string // as in the document: /tasks/{id}
	public   bool
	need     string   // x-permission
	audited  bool     // what it does is recorded
	kept     []string // x-audit: fields of the body whose values are recorded
	query    map[string]*openapi3.Parameter
	headers  []*openapi3.Parameter
	ids      []string // path parameters
	body     *openapi3.Schema
	needBody bool
}

// document is the API document and its operations by id. It never changes.
type document struct {
	doc *openapi3.T
	ops map[string]*operation
}

var dateTime = openapi3.NewCallbackValidator(func(s string) error {
	if _, err := time.Parse(time.RFC3339Nano, s); err != nil {
		return errors.New("is not a time like 2026-11-21T09:00:00Z")
	}
	return nil
})

// loadDocument returns the embedded document, which is read once: it is a
// constant of the program, and reading it takes tens of milliseconds.
var loadDocument = sync.OnceValues(readDocument)

func readDocument() (*document, error) {
	doc, err := openapi3.NewLoader().LoadFromData(api.Document)
	if err != nil {
		return nil, fmt.Errorf("load API document: %w", err)
	}
	d := &document{doc: doc, ops: map[string]*operation{}}
	for path, item := range doc.Paths.Map() {
		for method, o := range item.Operations() {
			op, err := newOperation(method, path, item, o)
			if err != nil {
				return nil, fmt.Errorf("%s %s: %w", method, path, err)
			}
			d.ops[op.id] = op
		}
	}
	return d, nil
}

func newOperation(method, path string, item *openapi3.PathItem, o *openapi3.Operation) (*operation, error) {
	op := &operation{id: o.OperationID, method: method, path: path, query: map[string]*openapi3.Parameter{}}
	if op.id == "" {
		return nil, errors.New("operationId is missing")
	}
	op.public = o.Security != nil && len(*o.Security) == 0
	op.need, _ = o.Extensions["x-permission"].(string)
	if err := op.readAudit(o.Extensions["x-audit"]); err != nil {
		return nil, err
	}
	for _, ref := range slices.Concat(item.Parameters, o.Parameters) {
		switch p := ref.Value; p.In {
		case openapi3.ParameterInPath:
			op.ids = append(op.ids, p.Name)
		case openapi3.ParameterInQuery:
			op.query[p.Name] = p
		case openapi3.ParameterInHeader:
			op.headers = append(op.headers, p)
		}
	}
	if o.RequestBody != nil {
		media := o.RequestBody.Value.Content.Get("application/json")
		if media == nil {
			return nil, errors.New("the body is not application/json")
		}
		op.body, op.needBody = media.Schema.Value, o.RequestBody.Value.Required
	}
	return op, nil
}

// readAudit takes x-audit: the fields of the body whose values are recorded, or
// "none" for work that is on record as a task. Every write says one of them.
func (op *operation) readAudit(v any) error {
	fields, isList := v.([]any)
	switch {
	case op.method == http.MethodGet:
		if v != nil {
			return errors.New("x-audit is for writes")
		}
		return nil
	case v == "none":
		return nil
	case !isList:
		return errors.New("x-audit is missing: name the fields whose values may be recorded, none of them secret")
	}
	op.audited = true
	for _, f := range fields {
		name, _ := f.(string)
		op.kept = append(op.kept, name)
	}
	return nil
}

// checkQuery checks the query string against the document.
func (op *operation) checkQuery(raw string) (url.Values, error) {
	if raw == "" {
		return nil, nil
	}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil, invalid(messages.FieldError{Pointer: "query:", Detail: "cannot be read: use & between parameters and percent-encoding"})
	}
	var wrong []messages.FieldError
	for name, list := range values {
		at := "query:" + name
		p := op.query[name]
		switch {
		case p == nil:
			wrong = append(wrong, messages.FieldError{Pointer: at, Detail: "is no parameter of this operation" + oneOf(op.query)})
		case len(list) > 1:
			wrong = append(wrong, messages.FieldError{Pointer: at, Detail: "is repeated"})
		case p.AllowEmptyValue && list[0] == "":
			values.Set(name, "true")
		default:
			wrong = append(wrong, checkParameter(at, p, list[0])...)
		}
	}
	if len(wrong) > 0 {
		slices.SortFunc(wrong, func(a, b messages.FieldError) int { return strings.Compare(a.Pointer, b.Pointer) })
		return nil, invalid(wrong...)
	}
	return values, nil
}

func oneOf(params map[string]*openapi3.Parameter) string {
	if len(params) == 0 {
		return ", which has none"
	}
	names := make([]string, 0, len(params))
	for n := range params {
		names = append(names, n)
	}
	slices.Sort(names)
	return "; it knows " + strings.Join(names, ", ")
}

// checkHeaders checks the documented headers that are present.
func (op *operation) checkHeaders(h http.Header) error {
	for _, p := range op.headers {
		list := h[http.CanonicalHeaderKey(p.Name)]
		if len(list) == 0 {
			continue
		}
		at := "header:" + p.Name
		if len(list) > 1 {
			return invalid(messages.FieldError{Pointer: at, Detail: "is repeated"})
		}
		if wrong := checkParameter(at, p, list[0]); len(wrong) > 0 {
			return invalid(wrong...)
		}
	}
	return nil
}

func checkParameter(at string, p *openapi3.Parameter, text string) []messages.FieldError {
	schema := p.Schema.Value
	switch {
	case schema.Type.Is("array"):
		items := strings.Split(text, ",")
		if schema.MaxItems != nil && uint64(len(items)) > *schema.MaxItems {
			return []messages.FieldError{{Pointer: at, Detail: fmt.Sprintf("has more than %d items", *schema.MaxItems)}}
		}
		for _, item := range items {
			if wrong := visit(at, schema.Items.Value, item); wrong != nil {
				return wrong
			}
		}
		return nil
	case schema.Type.Is("integer"):
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return []messages.FieldError{{Pointer: at, Detail: "is not a whole number"}}
		}
		return visit(at, schema, float64(n))
	case schema.Type.Is("boolean"):
		if text != "true" && text != "false" {
			return []messages.FieldError{{Pointer: at, Detail: "is neither true nor false"}}
		}
		return nil
	}
	return visit(at, schema, text)
}

// checkBody checks a parsed body; the refusal lists all that is wrong with it.
func (op *operation) checkBody(v any) error {
	wrong := visit("", op.body, v)
	if len(wrong) == 0 {
		return nil
	}
	e := invalid(wrong...)
	if slices.ContainsFunc(wrong, func(f messages.FieldError) bool { return f.Detail == tooManyBytes }) {
		e.Code = messages.CodeTooLarge
	}
	return e
}

// tooManyBytes is said of a text whose schema bounds its bytes (x-max-bytes).
const tooManyBytes = "is longer than 262144 bytes"

// visit checks a value against its schema. A non-empty at replaces the pointers.
func visit(at string, schema *openapi3.Schema, v any) []messages.FieldError {
	err := schema.VisitJSON(v, openapi3.MultiErrors(), openapi3.EnableFormatValidation(),
		openapi3.WithStringFormatValidator("date-time", dateTime))
	if err == nil {
		return nil
	}
	var wrong []messages.FieldError
	collect(err, func(e *openapi3.SchemaError) {
		p := at
		if p == "" {
			p = pointer(append(e.JSONPointer(), unknownField(e)...))
		}
		wrong = append(wrong, messages.FieldError{Pointer: p, Detail: detail(e)})
	})
	if len(wrong) == 0 {
		wrong = append(wrong, messages.FieldError{Pointer: at, Detail: "does not fit its schema"})
	}
	return wrong
}

// detail says what is wrong in words of our own where the library's are poor: it
// writes a million as 1e+06, shows regular expressions, and counts characters
// where we bound bytes.
func detail(e *openapi3.SchemaError) string {
	switch {
	case e.Schema == nil:
	case e.SchemaField == "pattern" && e.Schema.Extensions["x-says"] != nil:
		return fmt.Sprint(e.Schema.Extensions["x-says"])
	case e.SchemaField == "maxLength" && e.Schema.Extensions["x-max-bytes"] != nil:
		return tooManyBytes
	case e.SchemaField == "pattern":
		return "has a form or characters that are not allowed here"
	case e.SchemaField == "maximum" && e.Schema.Max != nil:
		return "number must be at most " + strconv.FormatFloat(*e.Schema.Max, 'f', -1, 64)
	case e.SchemaField == "minimum" && e.Schema.Min != nil:
		return "number must be at least " + strconv.FormatFloat(*e.Schema.Min, 'f', -1, 64)
	}
	return e.Reason
}

// unknownField is the name of a field that its object does not have, which the
// schema's error tells only in words; its pointer ends at the object.
func unknownField(e *openapi3.SchemaError) []string {
	quoted, is := strings.CutSuffix(e.Reason, " is unsupported")
	quoted, begins := strings.CutPrefix(quoted, "property ")
	name, err := strconv.Unquote(quoted)
	if !is || !begins || err != nil {
		return nil
	}
	return []string{name}
}

func collect(err error, found func(*openapi3.SchemaError)) {
	var list openapi3.MultiError
	var one *openapi3.SchemaError
	switch {
	case errors.As(err, &list):
		for _, e := range list {
			collect(e, found)
		}
	case errors.As(err, &one):
		found(one)
	}
}

// pointer writes a path as a JSON pointer (RFC 6901).
func pointer(path []string) string {
	var b strings.Builder
	for _, p := range path {
		b.WriteByte('/')
		b.WriteString(strings.NewReplacer("~", "~0", "/", "~1").Replace(p))
	}
	return b.String()
}
