"""The table of the wire contract: KubeArmor's feeder.LogService, message by message, number by number."""

from __future__ import annotations

MESSAGES = {
    "NonceMessage": """
        1 nonce int32
    """,
    "Message": """
        1 Timestamp int64
        2 UpdatedTime string
        3 ClusterName string
        4 HostName string
        5 HostIP string
        6 Type string
        7 Level string
        8 Message string
    """,
    "Podowner": """
        1 Ref string
        2 Name string
        3 Namespace string
    """,
    "ExecEvent": """
        1 ExecID string
        2 ExecutableName string
    """,
    "Alert": """
        1 Timestamp int64
        2 UpdatedTime string
        3 ClusterName string
        4 HostName string
        5 NamespaceName string
        6 PodName string
        7 ContainerID string
        8 ContainerName string
        9 HostPID int32
        10 PPID int32
        11 PID int32
        12 UID int32
        13 PolicyName string
        14 Severity string
        15 Tags string
        16 Message string
        17 Type string
        18 Source string
        19 Operation string
        20 Resource string
        21 Data string
        22 Action string
        23 Result string
        24 ContainerImage string
        25 ParentProcessName string
        26 ProcessName string
        27 HostPPID int32
        28 Enforcer string
        29 Labels string
        30 ATags repeated string
        31 Owner Podowner
        32 Cwd string
        33 TTY string
        34 MaxAlertsPerSec int32
        35 DroppingAlertsInterval int32
        36 ExecEvent ExecEvent
        37 KubeArmorVersion string
        38 NodeID string
        39 ProcessHash string
        40 ParentHash string
        41 ResourceHash string
        42 HashAlgo string
        43 EventData map<string, string>
        44 UserName string
    """,
    "Log": """
        1 Timestamp int64
        2 UpdatedTime string
        3 ClusterName string
        4 HostName string
        5 NamespaceName string
        6 PodName string
        7 ContainerID string
        8 ContainerName string
        9 HostPID int32
        10 PPID int32
        11 PID int32
        12 UID int32
        13 Type string
        14 Source string
        15 Operation string
        16 Resource string
        17 Data string
        18 Result string
        19 ContainerImage string
        20 ParentProcessName string
        21 ProcessName string
        22 HostPPID int32
        23 Labels string
        24 Owner Podowner
        25 Cwd string
        26 TTY string
        27 ExecEvent ExecEvent
        28 NodeID string
        29 ProcessHash string
        30 ParentHash string
        31 ResourceHash string
        32 HashAlgo string
        33 EventData map<string, string>
        34 UserName string
    """,
    "RequestMessage": """
        1 Filter string
    """,
    "ReplyMessage": """
        1 Retval int32
    """,
}
"""Each message's fields: number, name and type, which is `repeated T` or `map<K, V>` or a scalar or another message."""

METHODS = {
    "HealthCheck": ("NonceMessage", "ReplyMessage", False),
    "WatchMessages": ("RequestMessage", "Message", True),
    "WatchAlerts": ("RequestMessage", "Alert", True),
    "WatchLogs": ("RequestMessage", "Log", True),
}
"""Each method's request, its response, and whether the responses are a stream."""
