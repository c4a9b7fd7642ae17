package main

import (
	"strconv"
	"strings"
	"time"

	common "go.opentelemetry.io/proto/slim/otlp/common/v1"
	logs "go.opentelemetry.io/proto/slim/otlp/logs/v1"
	resources "go.opentelemetry.io/proto/slim/otlp/resource/v1"

	"otelbridge.invalid/benchmarks/gobridge/feeder"
)

// record is one event on its way: the log record, and what it is about.
type record struct {
	origin origin
	log    *logs.LogRecord
}

// origin is what becomes the resource: records with the same one share it within a request.
type origin struct {
	cluster, node, nodeID, namespace, pod, container, containerID, image string
}

func (o origin) resource() *resources.Resource {
	var a attributes
	a.text("service.name", "kubearmor")
	a.text("k8s.cluster.name", o.cluster)
	a.text("k8s.node.name", o.node)
	a.text("host.name", o.node)
	a.text("host.id", o.nodeID)
	a.text("k8s.namespace.name", o.namespace)
	a.text("k8s.pod.name", o.pod)
	a.text("k8s.container.name", o.container)
	a.text("container.id", o.containerID)
	a.text("container.image.name", o.image)
	return &resources.Resource{Attributes: a}
}

// event has the fields that an alert and a log share.
type event interface {
	GetUpdatedTime() string
	GetClusterName() string
	GetHostName() string
	GetNodeID() string
	GetNamespaceName() string
	GetPodName() string
	GetContainerName() string
	GetContainerID() string
	GetContainerImage() string
	GetLabels() string
	GetType() string
	GetOperation() string
	GetResource() string
	GetData() string
	GetResult() string
	GetSource() string
	GetProcessName() string
	GetParentProcessName() string
	GetCwd() string
	GetTTY() string
	GetHostPID() int32
	GetHostPPID() int32
	GetPID() int32
	GetPPID() int32
	GetUID() int32
	GetOwner() *feeder.Podowner
	GetExecEvent() *feeder.ExecEvent
}

// shared makes a record of the fields that an alert and a log share.
func shared(e event, name string, severity logs.SeverityNumber, severityText string) record {
	operation := strings.ToLower(e.GetOperation())
	a := make(attributes, 0, 32)
	a.text("kubearmor.type", e.GetType())
	a.text("kubearmor.operation", operation)
	a.text("kubearmor.resource", e.GetResource())
	a.text("kubearmor.data", e.GetData())
	a.text("kubearmor.result", e.GetResult())
	a.text("kubearmor.labels", e.GetLabels())
	a.text("kubearmor.owner.kind", e.GetOwner().GetRef())
	a.text("kubearmor.owner.name", e.GetOwner().GetName())
	a.text("kubearmor.exec.executable_name", e.GetExecEvent().GetExecutableName())
	a.text("process.command_line", e.GetSource())
	a.text("process.executable.path", e.GetProcessName())
	a.text("kubearmor.process.parent.executable.path", e.GetParentProcessName())
	a.text("process.working_directory", e.GetCwd())
	a.text("kubearmor.tty", e.GetTTY())
	a.number("process.pid", e.GetHostPID())
	a.number("process.parent_pid", e.GetHostPPID())
	a.number("process.vpid", e.GetPID())
	a.number("kubearmor.process.parent_vpid", e.GetPPID())
	a.number("process.real_user.id", e.GetUID())
	body := e.GetOperation() + " " + e.GetResource() + " by " + e.GetProcessName() + " in " + e.GetNamespaceName() + "/" +
		e.GetPodName() + ": " + e.GetResult()
	return record{
		origin: origin{
			e.GetClusterName(), e.GetHostName(), e.GetNodeID(), e.GetNamespaceName(), e.GetPodName(), e.GetContainerName(),
			e.GetContainerID(), e.GetContainerImage(),
		},
		log: &logs.LogRecord{
			TimeUnixNano:         unixNano(e.GetUpdatedTime()),
			ObservedTimeUnixNano: uint64(time.Now().UnixNano()),
			SeverityNumber:       severity,
			SeverityText:         severityText,
			EventName:            name + operation,
			Body:                 text(body),
			Attributes:           a,
		},
	}
}

func logRecord(log *feeder.Log) record {
	return shared(log, "kubearmor.telemetry.", logs.SeverityNumber_SEVERITY_NUMBER_INFO, "INFO")
}

func alertRecord(alert *feeder.Alert) record {
	severity := logs.SeverityNumber_SEVERITY_NUMBER_WARN
	if n, err := strconv.Atoi(alert.GetSeverity()); err == nil && n >= 7 {
		severity = logs.SeverityNumber_SEVERITY_NUMBER_ERROR
	}
	made := shared(alert, "kubearmor.alert.", severity, strings.TrimPrefix(severity.String(), "SEVERITY_NUMBER_"))
	a := attributes(made.log.Attributes)
	a.text("security_rule.name", alert.GetPolicyName())
	a.text("security_rule.description", alert.GetMessage())
	a.text("kubearmor.severity", alert.GetSeverity())
	a.text("kubearmor.action", alert.GetAction())
	a.text("kubearmor.enforcer", alert.GetEnforcer())
	a.text("kubearmor.version", alert.GetKubeArmorVersion())
	a.texts("kubearmor.tags", alert.GetATags())
	made.log.Attributes = a
	return made
}

// unixNano is the event's own time, or 0 where it is none.
func unixNano(updatedTime string) uint64 {
	at, err := time.Parse(time.RFC3339Nano, updatedTime)
	if err != nil {
		return 0
	}
	return uint64(at.UnixNano())
}

// attributes are added to unless they say nothing.
type attributes []*common.KeyValue

func (a *attributes) text(key, value string) {
	if value != "" {
		*a = append(*a, &common.KeyValue{Key: key, Value: text(value)})
	}
}

func (a *attributes) texts(key string, values []string) {
	if len(values) == 0 {
		return
	}
	array := &common.ArrayValue{Values: make([]*common.AnyValue, len(values))}
	for i, value := range values {
		array.Values[i] = text(value)
	}
	*a = append(*a, &common.KeyValue{Key: key, Value: &common.AnyValue{Value: &common.AnyValue_ArrayValue{ArrayValue: array}}})
}

func (a *attributes) number(key string, value int32) {
	*a = append(*a, &common.KeyValue{Key: key, Value: &common.AnyValue{Value: &common.AnyValue_IntValue{IntValue: int64(value)}}})
}

func text(value string) *common.AnyValue {
	return &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: value}}
}
