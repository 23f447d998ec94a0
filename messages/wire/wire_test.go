package wire

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"

	"github.com/dash-fleet/dash/messages"
)

// form is a value's way into bytes and back.
type form struct {
	typ reflect.Type
	way func(v any) (any, error)
}

func formOf[T any](encode func(*T) ([]byte, error), decode func([]byte) (T, error)) form {
	return form{reflect.TypeFor[T](), func(v any) (any, error) {
		in := v.(T)
		b, err := encode(&in)
		if err != nil {
			return nil, err
		}
		return decode(b)
	}}
}

func mailOf[T any]() form {
	return formOf(func(v *T) ([]byte, error) { return EncodeMail(*v) }, func(b []byte) (T, error) {
		v, err := DecodeMail(b)
		if err != nil {
			var none T
			return none, err
		}
		return v.(T), nil
	})
}

// forms are the values that have a byte form of their own.
var forms = map[string]form{
	"task":            formOf(EncodeTask, DecodeTask),
	"session changed": mailOf[messages.SessionChangedByG](),
	"demand":          mailOf[messages.Demand](),
	"taken":           mailOf[messages.Taken](),
	"assign":          mailOf[*messages.Assign](),
	"stop run":        mailOf[messages.StopRun](),
	"withdraw":        mailOf[messages.Withdraw](),
	"ended":           mailOf[*messages.Ended](),
	"proof":           mailOf[messages.Proof](),
}

func (f form) check(t interface {
	Helper()
	Errorf(string, ...any)
}, name string, want any) {
	t.Helper()
	got, err := f.way(want)
	if err != nil {
		t.Errorf("%s: %v", name, err)
	} else if d := cmp.Diff(got, want, protocmp.Transform()); d != "" {
		t.Errorf("%s: -got +want:\n%s", name, d)
	}
}

// TestIdentity: whatever value comes back as it was.
func TestIdentity(t *testing.T) {
	t.Parallel()
	for name, f := range forms {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) {
				v := reflect.New(f.typ).Elem()
				draw(t, v)
				f.check(t, name, v.Interface())
			})
		})
	}
}

// TestEveryField fails when a value gets a field that its byte form lacks.
func TestEveryField(t *testing.T) {
	t.Parallel()
	for name, f := range forms {
		fields := 0
		eachField(reflect.New(f.typ).Elem(), func(field string, v reflect.Value) {
			fields++
			f.check(t, name+": "+field, v.Interface())
		})
		if fields == 0 {
			t.Errorf("%s: no field was tried", name)
		}
	}
}

// TestPartsOfATask: what the parts for stores leave out is what they say.
func TestPartsOfATask(t *testing.T) {
	t.Parallel()
	inColumns := []string{"ID", "Tenant", "Pool", "Class", "Seq", "State", "Claim", "Session", "Gateway", "Spec", "Cancel.RequestedAt", "Cancel.Reason", "Brief", "CreatedAt", "FinishedAt"}
	inRow := []string{"Seq", "Gateway", "FinishedAt"}
	inOrder := []string{"Class", "Session", "Spec", "CreatedAt"}
	eachField(reflect.New(reflect.TypeFor[messages.Task]()).Elem(), func(field string, v reflect.Value) {
		want := v.Interface().(messages.Task)
		for part, carries := range map[string]bool{"run": !holds(inColumns, field), "row": !holds(inColumns, field) || holds(inRow, field), "order": holds(inOrder, field)} {
			var got messages.Task
			if err := partly(part, &want, &got); err != nil {
				t.Fatal(err)
			}
			if same := cmp.Equal(got, want, protocmp.Transform()); same != carries {
				t.Errorf("%s carries %s: %t, want %t", part, field, same, carries)
			}
		}
	})
}

func holds(fields []string, field string) bool {
	for _, f := range fields {
		if field == f || strings.HasPrefix(field, f+".") {
			return true
		}
	}
	return false
}

func partly(part string, from, to *messages.Task) error {
	switch part {
	case "run":
		b, err := EncodeRun(from)
		if err != nil {
			return err
		}
		return DecodeRun(to, b)
	case "row":
		b, err := AppendRow(nil, from)
		if err != nil {
			return err
		}
		return DecodeRow(to, b)
	}
	b, err := AppendOrder(nil, from, "", nil)
	if err != nil {
		return err
	}
	_, _, err = DecodeOrder(to, b)
	return err
}

// TestForeignBytes: bytes cut short are refused or give another value, and end no process.
func TestForeignBytes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		v := reflect.New(reflect.TypeFor[messages.Assign]()).Elem()
		draw(t, v)
		assign := v.Interface().(messages.Assign)
		assign.Task.ID = "last"
		whole, err := EncodeMail(&assign)
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeMail(whole[:rapid.IntRange(0, len(whole)-1).Draw(t, "cut")])
		if err == nil && cmp.Equal(got, any(&assign), protocmp.Transform()) {
			t.Fatal("a message came back whole from a part of its bytes")
		}
	})
	if _, err := DecodeMail(nil); err == nil {
		t.Error("no bytes are a message")
	}
	if _, err := EncodeMail(messages.Assign{}); err == nil {
		t.Error("a message that is not one was taken")
	}
}

func TestTextThatIsNotUTF8(t *testing.T) {
	t.Parallel()
	const bad = "cut\xc3"
	got, err := forms["task"].way(messages.Task{ID: "a", Gateway: bad, BootID: bad, Spec: &messages.TaskSpec{Message: bad, Labels: map[string]string{bad: bad}}})
	if err != nil {
		t.Fatal(err)
	}
	const good = "cut\uFFFD"
	want := messages.Task{ID: "a", Gateway: good, BootID: good, Spec: &messages.TaskSpec{Message: good, Labels: map[string]string{good: good}}}
	if d := cmp.Diff(got, any(want), protocmp.Transform()); d != "" {
		t.Errorf("-got +want:\n%s", d)
	}
}

// draw sets v to any value that has a byte form.
func draw(t *rapid.T, v reflect.Value) {
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(messages.FromMicros(rapid.OneOf(rapid.Just(int64(0)), rapid.Int64Range(-1<<40, 1<<52)).Draw(t, "at"))))
		return
	case time.Duration:
		v.SetInt(rapid.Int64Range(0, 1<<40).Draw(t, "duration") * 1000)
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(rapid.String().Draw(t, "text"))
	case reflect.Int, reflect.Int32, reflect.Int64:
		n := rapid.Int64().Draw(t, "number")
		v.SetInt(n >> (64 - v.Type().Bits()))
	case reflect.Uint8:
		v.SetUint(uint64(rapid.Uint8().Draw(t, "code")))
	case reflect.Float64:
		v.SetFloat(rapid.Float64Range(-1e9, 1e9).Draw(t, "fraction"))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "yes"))
	case reflect.Pointer:
		if rapid.Bool().Draw(t, "there") || v.Type() == reflect.TypeFor[*messages.Assign]() || v.Type() == reflect.TypeFor[*messages.Ended]() {
			v.Set(reflect.New(v.Type().Elem()))
			draw(t, v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				draw(t, v.Field(i))
			}
		}
	case reflect.Slice:
		for range rapid.IntRange(0, 3).Draw(t, "items") {
			e := reflect.New(v.Type().Elem()).Elem()
			drawItem(t, e)
			v.Set(reflect.Append(v, e))
		}
	case reflect.Map:
		for range rapid.IntRange(0, 3).Draw(t, "entries") {
			k, e := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			draw(t, k)
			draw(t, e)
			if v.IsNil() {
				v.Set(reflect.MakeMap(v.Type()))
			}
			v.SetMapIndex(k, e)
		}
	default:
		t.Fatalf("a field of type %s: say here how it is drawn", v.Type())
	}
}

// drawItem leaves no hole in a list of messages: protobuf has none.
func drawItem(t *rapid.T, v reflect.Value) {
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	draw(t, v)
}

// eachField calls try with root as it is when one field alone is set, for every
// field of it, of its structs, and of the first item of its lists.
func eachField(root reflect.Value, try func(field string, root reflect.Value)) {
	var walk func(v reflect.Value, path string)
	set := func(v reflect.Value, path string, to any) {
		v.Set(reflect.ValueOf(to).Convert(v.Type()))
		try(path, root)
		v.SetZero()
	}
	walk = func(v reflect.Value, path string) {
		switch v.Interface().(type) {
		case time.Time:
			set(v, path, time.UnixMicro(1_800_000_000_000_001).UTC())
			return
		case time.Duration:
			set(v, path, 7*time.Microsecond)
			return
		}
		switch v.Kind() {
		case reflect.Struct:
			for i := range v.NumField() {
				if f := v.Type().Field(i); f.IsExported() {
					walk(v.Field(i), strings.TrimPrefix(path+"."+f.Name, "."))
				}
			}
		case reflect.Pointer:
			v.Set(reflect.New(v.Type().Elem()))
			try(path, root)
			walk(v.Elem(), path)
			if v.Addr().Interface() != root.Addr().Interface() {
				v.SetZero()
			}
		case reflect.Slice:
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
			item := v.Index(0)
			if item.Kind() == reflect.Pointer {
				item.Set(reflect.New(item.Type().Elem()))
				item = item.Elem()
			}
			walk(item, path+"[]")
			v.SetZero()
		case reflect.Map:
			k, e := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			for _, part := range []reflect.Value{k, e} {
				eachField(part, func(field string, _ reflect.Value) {
					v.Set(reflect.MakeMap(v.Type()))
					v.SetMapIndex(k, e)
					try(path+"{}"+field, root)
					v.SetZero()
				})
			}
		case reflect.String:
			set(v, path, "ü")
		case reflect.Bool:
			set(v, path, true)
		default:
			set(v, path, 3)
		}
	}
	walk(root, "")
}
