package openclawtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strings"
)

// params are the checked parameters of a request.
type params map[string]json.RawMessage

// parseParams checks raw against a spec: names separated by blanks, each with
// its type after a colon (s string, i integer, b boolean, o object, a array,
// x any) and "*" in front of the colon when required.
func parseParams(method, spec string, raw json.RawMessage) (params, *rpcError) {
	var p params
	if len(raw) > 0 && !bytes.Equal(raw, []byte("null")) {
		if err := json.Unmarshal(raw, &p); err != nil {
			return nil, invalid(fmt.Sprintf("invalid %s params: must be object", method))
		}
	}
	seen := 0
	for field := range strings.FieldsSeq(spec) {
		name, kind, _ := strings.Cut(field, ":")
		name, required := strings.CutSuffix(name, "*")
		value, ok := p[name]
		if !ok {
			if required {
				return nil, invalid(fmt.Sprintf("invalid %s params: must have required property '%s'", method, name))
			}
			continue
		}
		seen++
		if want, ok := hasKind(kind, value); !ok {
			return nil, invalid(fmt.Sprintf("invalid %s params: at /%s: must be %s", method, name, want))
		}
		if required && kind == "s" && bytes.Equal(value, []byte(`""`)) {
			return nil, invalid(fmt.Sprintf("invalid %s params: at /%s: must NOT have fewer than 1 characters", method, name))
		}
	}
	if seen == len(p) {
		return p, nil
	}
	for name := range p {
		if !specHas(spec, name) {
			return nil, invalid(fmt.Sprintf("invalid %s params: at root: unexpected property '%s'", method, name))
		}
	}
	return p, nil
}

func specHas(spec, name string) bool {
	for field := range strings.FieldsSeq(spec) {
		known, _, _ := strings.Cut(field, ":")
		if strings.TrimSuffix(known, "*") == name {
			return true
		}
	}
	return false
}

func hasKind(kind string, raw json.RawMessage) (string, bool) {
	first := raw[0]
	switch kind {
	case "s":
		return "string", first == '"'
	case "b":
		return "boolean", first == 't' || first == 'f'
	case "o":
		return "object", first == '{'
	case "a":
		return "array", first == '['
	case "i":
		var f float64
		ok := json.Unmarshal(raw, &f) == nil && f == math.Trunc(f) && f >= 0 && f <= math.MaxInt32
		return "integer", ok
	default:
		return "anything", true
	}
}

func (p params) has(name string) bool { _, ok := p[name]; return ok }

// str is the string at name, empty when absent. A lone surrogate becomes U+FFFD.
func (p params) str(name string) string {
	var s string
	if raw, ok := p[name]; ok && !stringInto(raw, &s) {
		return ""
	}
	return s
}

func (p params) integer(name string, absent int) int {
	raw, ok := p[name]
	if !ok {
		return absent
	}
	var f float64
	if json.Unmarshal(raw, &f) != nil {
		return absent
	}
	return int(f)
}

func (p params) boolean(name string) bool { return string(p[name]) == "true" }

func (p params) strings(name string) []string {
	var list []string
	if raw, ok := p[name]; ok && json.Unmarshal(raw, &list) != nil {
		return nil
	}
	return list
}
