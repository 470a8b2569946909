# Language: what Packer 1.6.6 and the current Packer both read. required_plugins is in ../plugins.pkr.hcl.

variable "playbook" {
  type        = string
  description = "Path of the Ansible playbook that makes the image."
  default     = "ansible/playbooks/slicer.yml"
  validation {
    condition     = regex_replace(var.playbook, "^.+\\.ya?ml$", "") == ""
    error_message = "The playbook is a path that ends in .yml."
  }
}

variable "extra_vars" {
  type        = string
  description = "Path of a JSON file with the variables of the roles, written by kiln; on AWS with ansible_password, which looks up KILN_PACKER_PASSWORD in the environment."
  default     = "extra-vars.json"
}

variable "ansible_command" {
  type        = string
  description = "ansible-playbook of the environment that the lock names."
  default     = "ansible-playbook"
}

variable "ansible_env" {
  type        = list(string)
  description = "Environment of ansible-playbook, as NAME=value."
  default     = []
}

# Local: a container whose root is a folder.

variable "container" {
  type        = string
  description = "Name of the build container; the Ansible connection finds it by this."
  default     = "kiln-build"
  validation {
    condition     = regex_replace(var.container, "^[a-z0-9][a-z0-9_.-]+$", "") == ""
    error_message = "A container's name is lower-case letters, digits, dots and dashes."
  }
}

variable "run_command" {
  type        = list(string)
  description = "Arguments of the engine's run: systemd as process 1, the root folder as root."
  default     = ["--detach", "--systemd=always", "{{.Image}}", "/sbin/init"]
}

# AWS: a builder instance.

variable "version" {
  type        = string
  description = "Version of the image: time of the bake and start of the input digest."
  default     = "19700101T000000Z-00000000"
  validation {
    condition     = regex_replace(var.version, "^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}$", "") == ""
    error_message = "A version reads like 20260102T030405Z-89abcdef."
  }
}

variable "run_id" {
  type        = string
  description = "Id of this bake; every resource carries it as a tag, so that a sweep finds what a killed bake left."
  default     = "none"
}

variable "region" {
  type        = string
  description = "AWS region of the builder instance."
  default     = "us-east-1"
}

variable "instance_type" {
  type        = string
  description = "Type of the builder instance; one with a GPU where the role installs NVIDIA's GRID driver."
  default     = "m6i.xlarge"
}

variable "base_ami_name" {
  type        = string
  description = "Name filter of the base AMI: AppStream imports Windows Server 2022 and 2025 Full Base alone, with UEFI and TPM 2.0."
  default     = "TPM-Windows_Server-2022-English-Full-Base-*"
}

variable "base_ami_owner" {
  type        = string
  description = "Account that owns the base AMI; 801119661308 is Amazon's for Windows (EC2 user guide, Find an AMI)."
  default     = "801119661308"
  validation {
    condition     = regex_replace(var.base_ami_owner, "^[0-9]{12}$", "") == ""
    error_message = "An account id has twelve digits."
  }
}

variable "subnet_id" {
  type        = string
  description = "Subnet of the builder instance; empty takes the default VPC's."
  default     = ""
}

variable "project" {
  type        = string
  description = "Prefix of the AMI's name, as [project] of kiln.toml has it."
  default     = "kiln"
}

variable "iam_instance_profile" {
  type        = string
  description = "Instance profile of the builder instance; the GRID driver is read from S3 by it. Empty is none."
  default     = ""
}

variable "user_data_file" {
  type        = string
  description = "User data of the instance: the script that makes the listener of WinRM."
  default     = "packer/slicer/winrm.ps1"
}

variable "source_cidrs" {
  type        = list(string)
  description = "Networks that reach its WinRM; private ones by default, since it has no public address."
  default     = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]
}

variable "winrm_host" {
  type        = string
  description = "Host through which WinRM reaches the instance, a tunnel's end for one; empty takes its private address."
  default     = ""
}

variable "winrm_port" {
  type        = number
  description = "Port of WinRM over https."
  default     = 5986
}

variable "ec2_endpoint" {
  type        = string
  description = "Another endpoint of EC2, as of a VPC or of tests/emulator; empty takes the region's."
  default     = ""
}

variable "poll_seconds" {
  type        = number
  description = "Seconds between two looks at an instance or AMI that is not ready yet."
  default     = 30
}

variable "root_gb" {
  type        = number
  description = "Size of the root volume in GiB."
  default     = 64
  validation {
    condition     = var.root_gb >= 30 && var.root_gb <= 500
    error_message = "Windows Server's AMI has 30 GiB, and AppStream imports at most 500 GB."
  }
}

variable "manifest" {
  type        = string
  description = "Where Packer writes the id of the AMI."
  default     = "packer-manifest.json"
}
