package ratelimit

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func local(t *testing.T, most int) *Local {
	t.Helper()
	l, err := NewLocal(most, nil)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// takes makes n requests at once and returns how many passed, and the last decision.
func takes(t *testing.T, l Limiter, key string, perMinute, n int) (passed int, last Decision) {
	t.Helper()
	for range n {
		if last = l.Take(t.Context(), key, perMinute); last.OK {
			passed++
		}
	}
	return passed, last
}

// TestLocal: a minute's worth at once, then one for each 60 s / limit; a
// refused request costs nothing, and Retry is when the next one passes.
func TestLocal(t *testing.T) {
	t.Parallel()
	for _, perMinute := range []int{1, 7, 60, 100, 10_007} {
		t.Run(strconv.Itoa(perMinute), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := local(t, 0)
				if d := l.Take(t.Context(), "k", perMinute); !d.OK || d.Remaining != perMinute-1 {
					t.Fatalf("first: %+v", d)
				}
				n, d := takes(t, l, "k", perMinute, perMinute+3)
				if n != perMinute-1 || d.OK || d.Remaining != 0 || d.Retry <= 0 || d.Retry > time.Minute/time.Duration(perMinute) {
					t.Fatalf("%d more passed at once, then %+v", n, d)
				}
				if n, _ := takes(t, l, "other", perMinute, 1); n != 1 {
					t.Error("another key is refused")
				}
				for range 3 {
					_, d := takes(t, l, "k", perMinute, 1)
					time.Sleep(d.Retry - time.Microsecond)
					if n, _ := takes(t, l, "k", perMinute, 1); n != 0 {
						t.Error("passed before Retry")
					}
					time.Sleep(time.Microsecond)
					if n, _ := takes(t, l, "k", perMinute, 2); n != 1 {
						t.Errorf("%d of 2 passed after Retry", n)
					}
				}
				_, d = takes(t, l, "k", perMinute, 1)
				time.Sleep(d.Full)
				if n, _ := takes(t, l, "k", perMinute, perMinute+1); n != perMinute {
					t.Errorf("%d passed after Full, want the whole limit", n)
				}
			})
		})
	}
}

// TestPace compares with a bucket that is counted in fractions of requests.
func TestPace(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := paceOf(rapid.IntRange(1, 1_000_000).Draw(t, "limit"))
		var now, until int64
		full := p.room / p.every
		saved, at := full*p.every, int64(0) // microseconds' worth of requests, and when that was so
		for range rapid.IntRange(1, 200).Draw(t, "requests") {
			now += rapid.Int64Range(0, 2*p.every).Draw(t, "pause")
			saved, at = min(saved+now-at, full*p.every), now
			want := saved >= p.every
			if want {
				saved -= p.every
			}
			var ok bool
			if ok, until = p.take(now, until); ok != want {
				t.Fatalf("at %d: %v, want %v", now, ok, want)
			}
		}
	})
}

// TestClockSetBack: a time far ahead keeps nobody waiting longer than the limit does.
func TestClockSetBack(t *testing.T) {
	t.Parallel()
	p := paceOf(100)
	ok, until := p.take(1000, 3_600_000_000)
	if ok || p.decision(ok, until-1000).Retry > time.Minute/100 {
		t.Errorf("%v, %+v", ok, p.decision(ok, until-1000))
	}
}

// TestLocalIsBounded: keys without anything spent make room unnoticed; among
// busy ones the bound holds and is counted.
func TestLocalIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const most = looks / 2 // so that each look sees all
		l := local(t, most)
		use := func(prefix string, n int) {
			for i := range n {
				takes(t, l, prefix+strconv.Itoa(i), 60, 1)
			}
		}
		use("a", most)
		time.Sleep(time.Minute)
		use("b", most)
		if n := testutil.ToFloat64(l.forgotten); len(l.keys) != most || n != 0 {
			t.Errorf("%d keys, %v forgotten; want idle ones to make room", len(l.keys), n)
		}
		use("c", most/2)
		if n := testutil.ToFloat64(l.forgotten); len(l.keys) != most || n != most/2 {
			t.Errorf("%d keys, %v forgotten", len(l.keys), n)
		}
	})
}
