package events

import (
	"context"
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/http/auth"
)

// everybody is an authenticator that lets everybody watch.
type everybody struct{ auth.Authenticator }

func (everybody) Authenticate(context.Context, string) (*auth.Principal, error) {
	return &auth.Principal{Permissions: []auth.Permission{auth.Admin}}, nil
}

func (everybody) Changed() <-chan struct{} { return nil }

// slowReader takes a second for each write.
type slowReader struct {
	header http.Header
	until  time.Time
	writes int
}

func (r *slowReader) Header() http.Header                { return r.header }
func (r *slowReader) WriteHeader(int)                    {}
func (r *slowReader) SetWriteDeadline(t time.Time) error { r.until = t; return nil }
func (r *slowReader) FlushError() error                  { return nil }

func (r *slowReader) Write(b []byte) (int, error) {
	r.writes++
	if time.Sleep(time.Second); time.Now().After(r.until) {
		return 0, os.ErrDeadlineExceeded
	}
	return len(b), nil
}

// TestALongMessageHasTheTimeOfOne, however many pieces it is sent in: who reads it
// slowly holds its texts no longer.
func TestALongMessageHasTheTimeOfOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &slowReader{header: http.Header{}}
		ctx, p := (&Server{auth: everybody{}}).permit(t.Context(), Viewer{Need: auth.TasksRead})
		defer p.close()
		out, err := newSSE(w, 30*time.Second, p, 1)
		if err != nil {
			t.Fatal(err)
		}
		task := api.Task{Result: &api.TaskResult{Text: strings.Repeat("x", 4<<20)}}
		var l api.Long
		l.Task(&task)
		began := time.Now()
		err = out.send(ctx, typeFinal, 1, api.RunFinal{Task: task}, &l)
		if took := time.Since(began); !errors.Is(err, os.ErrDeadlineExceeded) || took > 31*time.Second || w.writes < 20 {
			t.Errorf("%v after %v and %d writes, want its end after 30 s", err, took, w.writes)
		}
		out.buf.Reset()
		for range 40 { // short ones have a time each
			out.message(typeGap, 1, []byte("{}"))
			if err := out.flush(ctx); err != nil {
				t.Fatal(err)
			}
		}
	})
}
