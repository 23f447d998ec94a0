package hostile

import (
	"encoding/json"
	"fmt"
	"strings"
)

// silent is an answer that is none.
const silent = "-"

// frameSize is just below what a client takes.
const frameSize = 25<<20 - 4096

func result(id, payload string) string {
	return `{"type":"res","id":"` + id + `","ok":true,"payload":` + payload + `}`
}

func failure(id, body string) string {
	return `{"type":"res","id":"` + id + `","ok":false,"error":` + body + `}`
}

func event(name, payload string) string {
	return `{"type":"event","event":"` + name + `","payload":` + payload + `}`
}

func final(r run, text string) string {
	return result(r.id, `{"runId":"`+r.run+`","status":"ok","result":{"payloads":[{"text":"`+text+`"}],"meta":{"agentMeta":{"provider":"p","model":"m","usage":{"input":1,"output":1}}}}}`)
}

func runningText(runID, text string) string {
	return event("agent", `{"runId":"`+runID+`","stream":"assistant","data":{"text":"`+text+`"}}`)
}

// many is a list of as many elements as a frame holds.
func many(element string, size int) string {
	return "[" + strings.Repeat(element+",", (size-len(element))/(len(element)+1)) + element + "]"
}

func deep(levels int) string {
	return strings.Repeat("[", levels) + strings.Repeat("]", levels)
}

var methods = []string{"agent", "agent.wait", "chat.history", "sessions.list", "sessions.describe", "sessions.abort", "sessions.delete",
	"tasks.list", "system.info", "health", "diagnostics.lanes"}

func honestHello(boot int) string {
	return helloWith(boot, quoteAll(methods), `["tick","agent","chat","task"]`)
}

func helloWith(boot int, methods, events string) string {
	return fmt.Sprintf(`{"type":"hello-ok","protocol":4,"server":{"version":"2026.9.6","buildId":"b","bootId":"hostile-boot-%d","connId":"c"},`+
		`"features":{"methods":%s,"events":%s},"snapshot":{"uptimeMs":1000,"suspension":{"phase":"accepting"}},`+
		`"auth":{"scopes":["operator.admin"]},"policy":{"maxPayload":26214400,"maxBufferedBytes":52428800,"tickIntervalMs":30000}}`, boot, methods, events)
}

func quoteAll(words []string) string {
	b, err := json.Marshal(words)
	if err != nil {
		panic(err) // words can be encoded
	}
	return string(b)
}

// honest is what a gateway without any run answers.
func honest(p *peer, r request) string {
	switch r.Method {
	case "sessions.list":
		return result(r.ID, `{"sessions":[],"hasMore":false}`)
	case "chat.history":
		return result(r.ID, `{"sessionId":"s","messages":[],"hasMore":false}`)
	case "tasks.list":
		return result(r.ID, `{"tasks":[]}`)
	case "diagnostics.lanes":
		return result(r.ID, `{"lanes":[{"lane":"main","maxConcurrent":512}]}`)
	case "system.info":
		return result(r.ID, `{"pid":1,"uptimeMs":1000,"cpuCount":1,"eventLoop":{"degraded":false,"delayP99Ms":1,"utilization":0.1}}`)
	case "health":
		return result(r.ID, `{"ok":true}`)
	case "sessions.abort":
		return result(r.ID, `{"status":"no-active-run"}`)
	case "sessions.delete":
		return result(r.ID, `{"deleted":true}`)
	case "agent.wait":
		return result(r.ID, `{"runId":`+quoteRun(r)+`,"status":"timeout"}`)
	}
	return failure(r.ID, `{"code":"INVALID_REQUEST","message":"unknown method"}`)
}

func quoteRun(r request) string {
	var params struct {
		Run json.RawMessage `json:"runId"`
	}
	if json.Unmarshal(r.Params, &params) != nil || params.Run == nil {
		return `""`
	}
	return string(params.Run)
}
