package health

import (
	"os"
	"strings"
	"testing"

	"github.com/dash-fleet/dash/cmd/internal/config"
)

func TestExposed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		listen, cert, public string
		mode                 os.FileMode
		want                 string
	}{
		{"127.0.0.1:7373", "", "", 0o700, ""},
		{"[::1]:7373", "", "", 0o755, ""},
		{"localhost:7373", "", "", 0o700, ""},
		{":7373", "", "", 0o700, "without TLS"},
		{"0.0.0.0:7373", "", "", 0o700, "without TLS"},
		{"10.0.0.1:7373", "", "http://dash", 0o700, "without TLS"},
		{"10.0.0.1:7373", "cert.pem", "", 0o700, ""},
		{"10.0.0.1:7373", "", "https://dash", 0o700, ""},
		{"127.0.0.1:7373", "", "", 0o777, "write to the data folder"},
	} {
		got := strings.Join(exposed(config.Config{Listen: c.listen, TLSCert: c.cert, PublicURL: c.public}, c.mode), "; ")
		if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%+v: %q", c, got)
		}
	}
}
