package openclawtest

import (
	"encoding/json"
	"errors"
)

var (
	errNotJSON    = errors.New("not a JSON value")
	errNotRequest = errors.New("not a request frame")
)

// request is a client's frame: one method call.
type request struct {
	id     string
	method string
	params json.RawMessage
}

// decodeRequest is strict about names and their case, as a schema is and
// encoding/json is not. errNotJSON is for bytes that are no JSON,
// errNotRequest for JSON that is no request.
func decodeRequest(data []byte) (request, error) {
	if !json.Valid(data) {
		return request{}, errNotJSON
	}
	var frame map[string]json.RawMessage
	if err := json.Unmarshal(data, &frame); err != nil {
		return request{}, errNotRequest
	}
	var r request
	var kind string
	for key, raw := range frame {
		ok := true
		switch key {
		case "type":
			ok = stringInto(raw, &kind)
		case "id":
			ok = stringInto(raw, &r.id)
		case "method":
			ok = stringInto(raw, &r.method)
		case "params":
			r.params = raw
		case "traceparent", "expectedProfileId":
			var s string
			ok = stringInto(raw, &s) && len(s) <= 128
		default:
			ok = false
		}
		if !ok {
			return request{}, errNotRequest
		}
	}
	if kind != "req" || r.id == "" || r.method == "" {
		return request{}, errNotRequest
	}
	return r, nil
}

func stringInto(raw json.RawMessage, s *string) bool {
	return len(raw) > 0 && raw[0] == '"' && json.Unmarshal(raw, s) == nil
}

// rpcError is the error envelope of an answer.
type rpcError struct {
	Code         string `json:"code"`
	Message      string `json:"message"`
	Details      any    `json:"details,omitempty"`
	Retryable    bool   `json:"retryable,omitempty"`
	RetryAfterMs int    `json:"retryAfterMs,omitempty"`
}

func invalid(message string) *rpcError {
	return &rpcError{Code: "INVALID_REQUEST", Message: message}
}

type response struct {
	Type    string    `json:"type"`
	ID      string    `json:"id"`
	OK      bool      `json:"ok"`
	Payload any       `json:"payload,omitempty"`
	Error   *rpcError `json:"error,omitempty"`
}

// encode marshals what this package built itself: it cannot fail but by a bug,
// which the panic makes loud.
func encode(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic("openclawtest: encode frame: " + err.Error())
	}
	return data
}

func okFrame(id string, payload any) []byte {
	return encode(response{Type: "res", ID: id, OK: true, Payload: payload})
}

func errFrame(id string, e *rpcError) []byte {
	return encode(response{Type: "res", ID: id, Error: e})
}

// eventHead is an event frame without its end: the writer adds the seq of its
// connection and the closing brace.
func eventHead(event string, payload any) []byte {
	data := encode(struct {
		Type    string `json:"type"`
		Event   string `json:"event"`
		Payload any    `json:"payload"`
	}{"event", event, payload})
	return data[:len(data)-1]
}
