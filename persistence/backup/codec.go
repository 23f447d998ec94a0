package backup

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"

	"google.golang.org/protobuf/proto"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// codec turns rows of one section into bytes and back.
type codec struct {
	section persistence.Section
	row     reflect.Type // what rows of the section are
	encode  func(row any) ([]byte, error)
	decode  func([]byte) (any, error)
}

// codecs is the archive's vocabulary. Adding a section or a field raises
// formatVersion: an older dash then refuses the archive and does not drop what
// it does not know.
var codecs = []codec{
	plain[messages.Tenant](persistence.SectionTenants),
	plain[persistence.User](persistence.SectionUsers),
	plain[persistence.LoginSession](persistence.SectionLogins),
	plain[persistence.Key](persistence.SectionKeys),
	plain[persistence.AuditEntry](persistence.SectionAudit),
	as(persistence.SectionGateways, encodeGateway, decodeGateway),
	plain[messages.Pool](persistence.SectionPools),
	plain[messages.Ownership](persistence.SectionOwnership),
	plain[persistence.PoolSeq](persistence.SectionPoolSeqs),
	plain[messages.GatewayStatus](persistence.SectionStatuses),
	plain[messages.Session](persistence.SectionSessions),
	as(persistence.SectionTasks, encodeTask, decodeTask),
	as(persistence.SectionEvents, encodeEvent, decodeEvent),
}

func codecFor(row any) (*codec, error) {
	for i := range codecs {
		if codecs[i].row == reflect.TypeOf(row) {
			return &codecs[i], nil
		}
	}
	return nil, fmt.Errorf("rows of type %T have no place in an archive", row)
}

func codecOf(s persistence.Section) *codec {
	for i := range codecs {
		if codecs[i].section == s {
			return &codecs[i]
		}
	}
	return nil
}

// as makes a codec for rows of type *T.
func as[T any](s persistence.Section, encode func(*T) ([]byte, error), decode func([]byte) (*T, error)) codec {
	return codec{
		section: s, row: reflect.TypeFor[*T](),
		encode: func(row any) ([]byte, error) { return encode(row.(*T)) },
		decode: func(b []byte) (any, error) { return decode(b) },
	}
}

// plain is for structs without secrets and protobuf messages.
func plain[T any](s persistence.Section) codec {
	return as(s, func(v *T) ([]byte, error) { return json.Marshal(v) }, func(b []byte) (*T, error) {
		v := new(T)
		return v, strict(b, v)
	})
}

// strict decodes JSON and refuses fields that this binary does not know.
func strict(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one value")
	}
	return nil
}

// gatewayRow is a gateway with its token in the clear: a messages.Secret
// encodes as a mask, and a restore must bring the token back.
type gatewayRow struct {
	messages.Gateway

	Token string
}

// encodeGateway leaves the home out: it names a data folder, and a restore has
// another one. The node of the gateway's name is its home then.
func encodeGateway(g *messages.Gateway) ([]byte, error) {
	row := gatewayRow{*g, g.Token.Reveal()}
	row.Home = ""
	return json.Marshal(row)
}

func decodeGateway(b []byte) (*messages.Gateway, error) {
	var r gatewayRow
	if err := strict(b, &r); err != nil {
		return nil, err
	}
	r.Gateway.Token = messages.Secret(r.Token)
	return &r.Gateway, nil
}

// taskRow is a task with its protobuf parts in their own encoding.
type taskRow struct {
	messages.Task

	Spec, Result, Error []byte // nil: none; empty: an empty message
	IdemKey             string `json:",omitempty"`
	IdemHash            []byte `json:",omitempty"`
	Ended               int64  `json:",omitempty"`
}

func encodeTask(t *persistence.TaskRow) (b []byte, err error) {
	r := taskRow{Task: t.Task, IdemKey: t.IdemKey, IdemHash: t.IdemHash, Ended: t.Ended}
	if t.Task.Spec != nil {
		if r.Spec, err = marshal(t.Task.Spec); err != nil {
			return nil, err
		}
	}
	if t.Task.Result != nil {
		if r.Result, err = marshal(t.Task.Result); err != nil {
			return nil, err
		}
	}
	if t.Task.Error != nil {
		if r.Error, err = marshal(t.Task.Error); err != nil {
			return nil, err
		}
	}
	return json.Marshal(r)
}

func decodeTask(b []byte) (*persistence.TaskRow, error) {
	var r taskRow
	if err := strict(b, &r); err != nil {
		return nil, err
	}
	t := &persistence.TaskRow{Task: r.Task, IdemKey: r.IdemKey, IdemHash: r.IdemHash, Ended: r.Ended}
	if r.Spec != nil {
		t.Task.Spec = &messages.TaskSpec{}
		if err := unmarshal(r.Spec, t.Task.Spec); err != nil {
			return nil, err
		}
	}
	if r.Result != nil {
		t.Task.Result = &messages.TaskResult{}
		if err := unmarshal(r.Result, t.Task.Result); err != nil {
			return nil, err
		}
	}
	if r.Error != nil {
		t.Task.Error = &messages.TaskError{}
		if err := unmarshal(r.Error, t.Task.Error); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func encodeEvent(e *messages.Event) ([]byte, error) { return marshal(e) }

func decodeEvent(b []byte) (*messages.Event, error) {
	e := &messages.Event{}
	return e, unmarshal(b, e)
}

// marshal never gives nil: an empty message is one too.
func marshal(m proto.Message) ([]byte, error) {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if b == nil {
		b = []byte{}
	}
	return b, err
}

// unmarshal decodes m. Fields that it does not know are kept by protobuf and
// so survive the restore.
func unmarshal(b []byte, m proto.Message) error { return proto.Unmarshal(b, m) }
