# The root stays a folder that kiln owns: nothing is committed or exported.
source "docker" "image" {
  image       = "kiln"
  pull        = false
  discard     = true
  run_command = var.run_command
}

# What only newer plugins can set (IMDS support, deprecation, sharing) is set by launch after the bake.
source "amazon-ebs" "image" {
  region                      = var.region
  custom_endpoint_ec2         = var.ec2_endpoint
  skip_region_validation      = var.ec2_endpoint != ""
  skip_metadata_api_check     = var.ec2_endpoint != ""
  instance_type               = var.instance_type
  subnet_id                   = var.subnet_id
  iam_instance_profile        = var.iam_instance_profile
  user_data_file              = var.user_data_file
  associate_public_ip_address = false
  ssh_username                = "admin"
  ssh_interface               = var.ssh_interface
  ssh_host                    = var.ssh_host
  ssh_port                    = var.ssh_port
  temporary_key_pair_type     = "ed25519"
  shutdown_behavior           = "terminate"
  ami_name                    = "${var.project}-monai-label-${var.version}"
  ami_description             = "MONAI Label, baked by kiln ${var.version}"
  ena_support                 = true

  # Of Session Manager, where the instance brings no role of its own.
  dynamic "temporary_iam_instance_profile_policy_document" {
    for_each = var.ssh_interface == "session_manager" && var.iam_instance_profile == "" ? ["ssm"] : []
    content {
      Version = "2012-10-17"
      Statement {
        Effect   = "Allow"
        Action   = ["ssm:UpdateInstanceInformation", "ssmmessages:CreateControlChannel", "ssmmessages:CreateDataChannel", "ssmmessages:OpenControlChannel", "ssmmessages:OpenDataChannel"]
        Resource = ["*"]
      }
    }
  }

  source_ami_filter {
    filters = {
      name                = var.base_ami_name
      root-device-type    = "ebs"
      virtualization-type = "hvm"
    }
    owners      = [var.base_ami_owner]
    most_recent = true
  }

  launch_block_device_mappings {
    device_name           = "/dev/xvda"
    volume_size           = var.root_gb
    volume_type           = "gp3"
    throughput            = 250
    iops                  = 3000
    delete_on_termination = true
  }

  # The default gives up after half an hour; a snapshot of 40 GB may take longer.
  aws_polling {
    delay_seconds = var.poll_seconds
    max_attempts  = 240
  }

  run_tags = {
    "kiln:run"   = var.run_id
    "kiln:image" = "monai-label"
  }
  run_volume_tags = {
    "kiln:run" = var.run_id
  }
  tags = {
    "kiln:run"     = var.run_id
    "kiln:image"   = "monai-label"
    "kiln:version" = var.version
    "kiln:base"    = "{{ .SourceAMI }}"
  }
  snapshot_tags = {
    "kiln:run"     = var.run_id
    "kiln:image"   = "monai-label"
    "kiln:version" = var.version
  }
}
