package launcher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/dash-fleet/dash/actors/openclaw/openclawtest"
)

// The test binary is also the daemon under test, a wrapper around it, and a
// Dash process that can be killed.
const (
	argStandIn = "stand-in-gateway"
	argWrapper = "stand-in-wrapper"
	argDash    = "stand-in-dash"
	argSim     = "simulated-gateway"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case argStandIn:
			os.Exit(standIn())
		case argWrapper:
			os.Exit(wrapper())
		case argDash:
			os.Exit(dash())
		case argSim:
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
			defer stop()
			os.Exit(openclawtest.RunManaged(ctx, os.Getenv, slog.New(slog.NewTextHandler(os.Stderr, nil))))
		}
	}
	goleak.VerifyTestMain(m)
}

// behaviour is section "standIn" of the stand-in's configuration file.
type behaviour struct {
	ReadyMillis int    `json:"readyMillis"` // from listening to ready; negative: never
	BootUntil   string `json:"bootUntil"`   // does not listen before this file exists
	DrainUntil  string `json:"drainUntil"`  // does not end before this file exists
	Exit        int    `json:"exit"`        // exit at once with this code
	Leak        bool   `json:"leak"`        // print the token first
	Child       bool   `json:"child"`       // start a program that stays, as an agent may
	Marker      string `json:"marker"`      // append "start <ns>" and "ready <ns>" to this file
}

type standInConfig struct {
	Gateway struct {
		Mode string `json:"mode"`
		Port int    `json:"port"`
		Auth struct {
			Token string `json:"token"`
		} `json:"auth"`
	} `json:"gateway"`
	StandIn behaviour `json:"standIn"`
	Unknown any       `json:"unknownKey"`
}

// standIn behaves as a real daemon does at its start and its end.
func standIn() int {
	b, err := os.ReadFile(os.Getenv("OPENCLAW_CONFIG_PATH"))
	var c standInConfig
	if err == nil {
		err = json.Unmarshal(b, &c)
	}
	if err != nil || c.Unknown != nil || c.Gateway.Mode != "local" {
		fmt.Println("config invalid:", err)
		return 78
	}
	if c.StandIn.Leak {
		fmt.Printf("started with token %s\x1b[31m, key %s\n", c.Gateway.Auth.Token, os.Getenv("PROVIDER_API_KEY"))
	}
	mark(c.StandIn.Marker, "start")
	if c.StandIn.Exit != 0 {
		fmt.Println("told to fail")
		return c.StandIn.Exit
	}
	// Closed at the end: a file that is collected as garbage frees its lock.
	lock, err := os.OpenFile(filepath.Join(os.Getenv("OPENCLAW_STATE_DIR"), "owner.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil || unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		fmt.Println("state folder is in use; run doctor")
		return 78
	}
	defer lock.Close()
	if c.StandIn.Child {
		if err := exec.Command("/bin/sleep", "600").Start(); err != nil {
			fmt.Println(err)
			return 1
		}
	}
	awaitFile(c.StandIn.BootUntil)
	return serve(c)
}

func serve(c standInConfig) int {
	var draining, ready atomic.Bool
	ln, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(c.Gateway.Port)))
	if err != nil {
		fmt.Println("port taken:", err)
		return 1
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"ok":true}`) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		switch {
		case draining.Load():
			http.Error(w, `{"ready":false,"failing":["gateway-draining"]}`, http.StatusServiceUnavailable)
		case !ready.Load():
			http.Error(w, `{"ready":false,"failing":["startup"]}`, http.StatusServiceUnavailable)
		default:
			fmt.Fprint(w, `{"ready":true,"failing":[]}`)
		}
	})
	mux.HandleFunc("POST /exit/{code}", func(_ http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.PathValue("code"))
		os.Exit(code)
	})
	srv := &http.Server{Handler: mux}
	go srv.Serve(ln)
	if c.StandIn.ReadyMillis >= 0 {
		time.AfterFunc(time.Duration(c.StandIn.ReadyMillis)*time.Millisecond, func() {
			mark(c.StandIn.Marker, "ready")
			ready.Store(true)
		})
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	<-ctx.Done()
	draining.Store(true)
	awaitFile(c.StandIn.DrainUntil)
	return 0
}

func awaitFile(path string) {
	for path != "" {
		if _, err := os.Stat(path); err == nil {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func mark(path, what string) {
	if path == "" {
		return
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	fmt.Fprintf(f, "%s %d\n", what, time.Now().UnixNano())
	f.Close()
}

// wrapper starts the stand-in as a child, as a launcher script would.
func wrapper() int {
	cmd := exec.Command(os.Args[0], argStandIn)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		var ee *exec.ExitError
		if errors.As(err, &ee) && ee.ExitCode() >= 0 {
			return ee.ExitCode()
		}
		return 1
	}
	return 0
}

// dash is a Dash process: it ensures gateway "gw" in a folder, prints the
// endpoint's pid and waits to be killed. With "die" it kills itself between
// the start of the daemon and its record.
func dash() int {
	dir, how := os.Args[2], os.Args[3]
	l, err := New(Config{Dir: dir, Command: []string{os.Args[0], argStandIn}})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	if how == "die" {
		l.afterSpawn = func() { syscall.Kill(os.Getpid(), syscall.SIGKILL) }
	}
	ep, err := l.Ensure(context.Background(), Spec{ID: "gw"})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println(ep.PID)
	select {}
}
