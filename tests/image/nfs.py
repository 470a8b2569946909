"""What NFSv4.1 does without, and the image therefore keeps from starting."""

MASKED = (
    "nfs-client.target",
    "rpc-statd-notify.service",
    "rpc-statd.service",
    "rpcbind.service",
    "rpcbind.socket",
    "stunnel4.service",
)
