#!/bin/bash
export NCCL_SOCKET_IFNAME=lo
deepspeed --num_nodes 2 --num_gpus ${GPUS:-8} train.py --deepspeed_config ds_config.json
