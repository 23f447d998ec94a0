package server

import (
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/messages"
)

// decodeSubmit reads a submit without the schema, which would cost several
// times as much as the rest of the answer. It accepts only what is certainly
// valid and says false to everything else, which then goes the schema's way:
// the document stays the law. A test proves that whatever it accepts, the
// schema accepts with the same meaning.
func decodeSubmit(raw []byte, b *api.SubmitTask) bool {
	d := submitDecoder{scan: scan{b: raw}}
	var seen uint32
	err := d.object(func(name string) error {
		bit, known := submitFields[name]
		if !known || seen&bit != 0 {
			return errSlowPath
		}
		seen |= bit
		return d.field(bit, b)
	})
	const required = fieldPriority | fieldInput
	return err == nil && d.end() == nil && seen&required == required
}

const (
	fieldPriority uint32 = 1 << iota
	fieldInput
	fieldTenant
	fieldPool
	fieldSession
	fieldDueAt
	fieldDelay
	fieldNotAfter
	fieldMaxAttempts
	fieldOnUnknown
	fieldLabels
	// backoff and requires are rare: the schema's way
)

var submitFields = map[string]uint32{
	"priority": fieldPriority, "input": fieldInput, "tenant": fieldTenant, "pool": fieldPool, "session": fieldSession,
	"due_at": fieldDueAt, "delay_seconds": fieldDelay, "not_after": fieldNotAfter, "max_attempts": fieldMaxAttempts,
	"on_unknown": fieldOnUnknown, "labels": fieldLabels,
}

// errSlowPath says that the schema shall decide.
var errSlowPath = &syntaxError{detail: "for the schema to decide"}

type submitDecoder struct{ scan }

func (d *submitDecoder) field(bit uint32, b *api.SubmitTask) (err error) {
	switch bit {
	case fieldPriority:
		err = d.priority(&b.Priority)
	case fieldInput:
		err = d.input(&b.Input)
	case fieldTenant:
		b.Tenant, err = d.id()
	case fieldPool:
		b.Pool, err = d.id()
	case fieldSession:
		b.Session, err = d.id()
	case fieldDueAt:
		b.DueAt, err = d.time()
	case fieldNotAfter:
		b.NotAfter, err = d.time()
	case fieldDelay:
		var n float64
		if n, err = d.number(); n < 0 || n > 31536000 {
			return errSlowPath
		}
		b.DelaySeconds = &n
	case fieldMaxAttempts:
		var n int64
		if n, err = d.integer(1, 100); err == nil {
			small := int32(n)
			b.MaxAttempts = &small
		}
	case fieldOnUnknown:
		var s string
		s, err = d.text()
		if s != string(messages.Requeue) && s != string(messages.Hold) {
			return errSlowPath
		}
		v := api.OnUnknown(s)
		b.OnUnknown = &v
	case fieldLabels:
		b.Labels, err = d.labels()
	}
	return err
}

func (d *submitDecoder) priority(p *api.Priority) error {
	s, err := d.text()
	if err != nil {
		return err
	}
	switch v := api.Priority(s); v {
	case api.PriorityCritical, api.PriorityHigh, api.PriorityMedium, api.PriorityLow:
		*p = v
		return nil
	}
	return errSlowPath
}

func (d *submitDecoder) input(in *api.SubmitInput) error {
	var message, model, timeout bool
	err := d.object(func(name string) error {
		switch {
		case name == "message" && !message:
			message = true
			s, err := d.text()
			if err != nil || s == "" || len(s) > MaxMessage {
				return errSlowPath
			}
			in.Message = s
		case name == "model" && !model:
			model = true
			s, err := d.text()
			if err != nil || s == "" || utf8.RuneCountInString(s) > 256 {
				return errSlowPath
			}
			in.Model = &s
		case name == "timeout_seconds" && !timeout:
			timeout = true
			n, err := d.integer(1, 86400)
			if err != nil {
				return err
			}
			in.TimeoutSeconds = &n
		default:
			return errSlowPath
		}
		return nil
	})
	if err == nil && !message {
		return errSlowPath
	}
	return err
}

func (d *submitDecoder) id() (*string, error) {
	s, err := d.text()
	if err != nil || messages.CheckID(s) != nil {
		return nil, errSlowPath
	}
	return &s, nil
}

func (d *submitDecoder) time() (*time.Time, error) {
	s, err := d.text()
	if err != nil {
		return nil, err
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return nil, errSlowPath
	}
	return &t, nil
}

// integer reads a whole number that is written as one.
func (d *submitDecoder) integer(low, high int64) (int64, error) {
	t, err := d.literal()
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(string(t), 10, 64)
	if err != nil || n < low || n > high {
		return 0, errSlowPath
	}
	return n, nil
}

func (d *submitDecoder) labels() (*map[string]string, error) {
	m := map[string]string{}
	err := d.object(func(name string) error {
		v, err := d.text()
		if _, twice := m[name]; err != nil || twice || len(m) == 64 || utf8.RuneCountInString(v) > 256 {
			return errSlowPath
		}
		m[name] = v
		return nil
	})
	return &m, err
}
