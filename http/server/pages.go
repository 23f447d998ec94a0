package server

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"slices"
	"strings"
	"sync"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/dash-fleet/dash/messages"
)

//go:embed docs.html
var docsTemplate string

// pages are made once, at start.
type pages struct {
	openapi []byte
	docs    []byte
	errors  map[messages.Code][]byte
}

type docsPage struct {
	Title, Description string
	Tags               []docsTag
	Schemas            []docsSchema
	Errors             []docsError
	Prefix             string
	Public             bool // Prefix is a whole URL
}

type docsTag struct {
	Name       string
	Operations []docsOperation
}

type docsOperation struct {
	ID, Method, Path, Summary, Description, Access, Body string
	Params                                               []docsParam
	Examples                                             []string
}

type docsParam struct{ Name, In, Description, Schema string }

type docsSchema struct{ Name, JSON string }

type docsError struct {
	Code, Title, Advice string
	Status              int
}

// plainPages are those of a server without a public URL, made once: they are a
// constant of the program too.
var plainPages = sync.OnceValues(func() (pages, error) {
	d, err := loadDocument()
	if err != nil {
		return pages{}, err
	}
	return newPages(d, "")
})

func pagesFor(d *document, public string) (pages, error) {
	if public == "" {
		return plainPages()
	}
	return newPages(d, public)
}

// newPages makes the pages of a server whose links begin with public.
func newPages(d *document, public string) (pages, error) {
	p := pages{errors: map[messages.Code][]byte{}}
	doc := *d.doc
	doc.Servers = make(openapi3.Servers, len(d.doc.Servers))
	for i, server := range d.doc.Servers {
		moved := *server
		moved.URL = public + server.URL
		doc.Servers[i] = &moved
	}
	var err error
	if p.openapi, err = doc.MarshalJSON(); err != nil {
		return p, fmt.Errorf("write API document: %w", err)
	}
	t, err := template.New("docs").Parse(docsTemplate)
	if err != nil {
		return p, fmt.Errorf("read docs page: %w", err)
	}
	data, err := docsData(d, public+prefix)
	if err != nil {
		return p, err
	}
	if p.docs, err = render(t, "docs", data); err != nil {
		return p, err
	}
	for _, e := range data.Errors {
		if p.errors[messages.Code(e.Code)], err = render(t, "error", e); err != nil {
			return p, err
		}
	}
	return p, nil
}

func render(t *template.Template, name string, data any) ([]byte, error) {
	var b bytes.Buffer
	if err := t.ExecuteTemplate(&b, name, data); err != nil {
		return nil, fmt.Errorf("write docs page: %w", err)
	}
	return b.Bytes(), nil
}

func docsData(d *document, prefix string) (docsPage, error) {
	page := docsPage{Title: d.doc.Info.Title, Description: d.doc.Info.Description, Prefix: prefix, Public: !strings.HasPrefix(prefix, "/")}
	for _, tag := range d.doc.Tags {
		operations, err := docsOperations(d, tag.Name, prefix)
		if err != nil {
			return page, err
		}
		page.Tags = append(page.Tags, docsTag{Name: tag.Name, Operations: operations})
	}
	for name, ref := range d.doc.Components.Schemas {
		b, err := json.MarshalIndent(ref.Value, "", "  ")
		if err != nil {
			return page, fmt.Errorf("write schema %s: %w", name, err)
		}
		page.Schemas = append(page.Schemas, docsSchema{Name: name, JSON: string(b)})
	}
	slices.SortFunc(page.Schemas, func(a, b docsSchema) int { return strings.Compare(a.Name, b.Name) })
	for code, m := range meanings {
		page.Errors = append(page.Errors, docsError{Code: string(code), Title: m.title, Advice: m.advice, Status: m.status})
	}
	slices.SortFunc(page.Errors, func(a, b docsError) int {
		return 1000*(a.Status-b.Status) + strings.Compare(a.Code, b.Code)
	})
	return page, nil
}

func docsOperations(d *document, tag, prefix string) ([]docsOperation, error) {
	var out []docsOperation
	for path, item := range d.doc.Paths.Map() {
		for method, o := range item.Operations() {
			if len(o.Tags) == 0 || o.Tags[0] != tag {
				continue
			}
			op := docsOperation{ID: o.OperationID, Method: method, Path: path, Summary: o.Summary, Description: o.Description, Access: "public"}
			if need := d.ops[o.OperationID].need; need != "" {
				op.Access = "needs " + need
			}
			if o.RequestBody != nil {
				ref := o.RequestBody.Value.Content.Get("application/json").Schema.Ref
				op.Body = ref[strings.LastIndexByte(ref, '/')+1:]
			}
			params := slices.Concat(item.Parameters, o.Parameters)
			for _, ref := range params {
				p := ref.Value
				schema := strings.Join(p.Schema.Value.Type.Slice(), " ")
				op.Params = append(op.Params, docsParam{Name: p.Name, In: p.In, Description: p.Description, Schema: schema})
			}
			var err error
			if op.Examples, err = curls(op, o, params, prefix); err != nil {
				return nil, err
			}
			out = append(out, op)
		}
	}
	slices.SortFunc(out, func(a, b docsOperation) int {
		return strings.Compare(a.Path+" "+a.Method, b.Path+" "+b.Method)
	})
	return out, nil
}
