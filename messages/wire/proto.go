package wire

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Marshal encodes m. It never returns nil bytes, which would be stored as NULL.
func Marshal(m proto.Message) ([]byte, error) { return Append([]byte{}, m) }

// Append encodes m behind buf. Protobuf refuses text that is not UTF-8,
// which a cut in the middle of a character is enough for: what is wrong is
// stored as U+FFFD, so that one such text cannot hold up a whole batch.
func Append(buf []byte, m proto.Message) ([]byte, error) {
	out, err := proto.MarshalOptions{}.MarshalAppend(buf, m)
	if err == nil {
		return out, nil
	}
	m = proto.Clone(m)
	mend(m.ProtoReflect())
	if out, err = (proto.MarshalOptions{}).MarshalAppend(buf, m); err != nil {
		return nil, fmt.Errorf("encode %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	return out, nil
}

// mend replaces what is not UTF-8 in all texts of m.
func mend(m protoreflect.Message) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap():
			mendMap(v.Map(), f.MapValue().Kind())
		case f.IsList():
			for i, list := 0, v.List(); i < list.Len(); i++ {
				list.Set(i, mendValue(list.Get(i), f.Kind()))
			}
		default:
			m.Set(f, mendValue(v, f.Kind()))
		}
		return true
	})
}

func mendMap(m protoreflect.Map, kind protoreflect.Kind) {
	m.Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
		m.Clear(k)
		if s, ok := k.Interface().(string); ok {
			k = protoreflect.ValueOfString(strings.ToValidUTF8(s, "\uFFFD")).MapKey()
		}
		m.Set(k, mendValue(v, kind))
		return true
	})
}

func mendValue(v protoreflect.Value, kind protoreflect.Kind) protoreflect.Value {
	switch kind {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(strings.ToValidUTF8(v.String(), "\uFFFD"))
	case protoreflect.MessageKind:
		mend(v.Message())
	}
	return v
}
