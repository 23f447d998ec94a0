package postgres

import (
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/dash-fleet/dash/persistence"
)

// TestAFailedConnectIsOneSentence: of several servers each is told once, and a
// name that nobody knows once.
func TestAFailedConnectIsOneSentence(t *testing.T) {
	t.Parallel()
	cc, err := pgx.ParseConfig("postgres://u:p@127.0.0.1:1,127.0.0.1:2/d")
	if err != nil {
		t.Fatal(err)
	}
	_, away := pgx.ConnectConfig(t.Context(), cc)
	err = connectError(cc, away)
	var op *net.OpError
	if !errors.Is(err, persistence.ErrUnavailable) || !errors.As(err, &op) {
		t.Errorf("%v lost what it is", err)
	}
	for _, server := range []string{"dial tcp 127.0.0.1:1: ", "dial tcp 127.0.0.1:2: "} {
		if strings.Count(err.Error(), server) != 1 {
			t.Errorf("%q tells of %q not once", err, server)
		}
	}
	if strings.ContainsAny(err.Error(), "\n\t") {
		t.Errorf("%q is more than a line", err)
	}
	const lookup = "lookup nosuch.invalid on 10.0.0.1:53: no such host"
	err = connectError(cc, errors.New("failed to connect to `user=u database=d`:\n\thostname resolving error: "+lookup+"\n\t"+lookup))
	if !strings.HasSuffix(err.Error(), "store unavailable: hostname resolving error: "+lookup) || strings.Contains(err.Error(), "\n") {
		t.Errorf("%q", err)
	}
}
