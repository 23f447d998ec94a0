package rows

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// field is a number in protobuf encoding; zero is left out.
type field struct {
	n protowire.Number
	v int64
}

func (f field) append(b []byte) []byte {
	if f.v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, f.n, protowire.VarintType), uint64(f.v))
}

func appendMessage(b []byte, n protowire.Number, m proto.Message) ([]byte, error) {
	enc, err := Marshal(m)
	if err != nil {
		return nil, err
	}
	return protowire.AppendBytes(protowire.AppendTag(b, n, protowire.BytesType), enc), nil
}

// fields hands on every number and every text of b; other types are skipped.
func fields(b []byte, number func(protowire.Number, int64), text func(protowire.Number, []byte) error) error {
	for len(b) > 0 {
		n, typ, size := protowire.ConsumeTag(b)
		if size < 0 {
			return protowire.ParseError(size)
		}
		b = b[size:]
		var err error
		switch typ {
		case protowire.VarintType:
			var v uint64
			if v, size = protowire.ConsumeVarint(b); size >= 0 {
				number(n, int64(v))
			}
		case protowire.BytesType:
			var v []byte
			if v, size = protowire.ConsumeBytes(b); size >= 0 {
				err = text(n, v)
			}
		default:
			size = protowire.ConsumeFieldValue(n, typ, b)
		}
		switch {
		case size < 0:
			return protowire.ParseError(size)
		case err != nil:
			return err
		}
		b = b[size:]
	}
	return nil
}
