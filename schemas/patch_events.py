"""The five patch payloads (contract 3.21 to 3.25)."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.base import BatchNumber, Date, DateTime, DeviceId, Model, Text
from schemas.shared import Geo

DeviceType = Literal[
    "insulin_patch", "pain_relief_patch", "hormone_patch_microsizefibers", "vaccine_patch", "diagnostic_sensor"
]
ActivationMethod = Literal["qr_scan", "nfc_tap", "manual_entry", "app_pairing"]
ApplicationSite = Literal["upper_arm", "abdomen", "thigh", "back", "chest"]
AdhesionQuality = Literal["excellent", "good", "fair", "poor"]


class StorageConditions(Model):
    """How the patch was stored before use."""

    temperature_range: Text
    humidity_exposure: float


class DeviceMetadata(Model):
    """What the label or the patch says of itself."""

    firmware_version: Text
    manufacturing_date: Date
    expiry_date: Date
    storage_conditions: StorageConditions


class DeviceActivationEvent(Model):
    """3.21."""

    device_id: DeviceId
    batch_number: BatchNumber
    activation_method: ActivationMethod
    patient_id: Text | None = None
    healthcare_provider: Text | None = None
    prescription_id: Text | None = None
    device_type: DeviceType
    activation_location: Geo | None = None
    device_metadata: DeviceMetadata | None = None


class SkinPreparation(Model):
    """How the skin was prepared."""

    cleaned: bool
    hair_removed: bool
    skin_condition: Literal["normal", "dry", "oily", "sensitive", "irritated"]


class EnvironmentalConditions(Model):
    """Surroundings at application."""

    temperature: float
    humidity: float
    altitude: float


class PatchApplicationEvent(Model):
    """3.22."""

    device_id: DeviceId
    application_site: ApplicationSite
    application_timestamp: DateTime
    skin_preparation: SkinPreparation | None = None
    application_pressure: float | None = None
    adhesion_quality: AdhesionQuality | None = None
    patient_comfort_score: Annotated[int, Field(ge=1, le=10)] | None = None
    environmental_conditions: EnvironmentalConditions | None = None


class SensorReadingEvent(Model):
    """3.23."""

    device_id: DeviceId
    sensor_type: Literal["glucose", "insulin_level", "ph", "temperature", "pressure", "flow_rate", "biomarker"]
    reading_value: float
    unit_of_measurement: Text
    timestamp: DateTime
    reading_quality: Literal["high", "medium", "low", "error"]
    calibration_status: Literal["calibrated", "needs_calibration", "calibration_expired"]
    baseline_deviation: float | None = None
    trend_direction: Literal["rising", "falling", "stable", "fluctuating"] | None = None
    alert_triggered: bool | None = None
    clinical_significance: Literal["normal", "attention_needed", "critical", "emergency"] | None = None


class PatientResponse(Model):
    """How the patient took a dose."""

    immediate_reaction: Literal["none", "mild_irritation", "moderate_reaction", "severe_reaction"]
    pain_level: Annotated[int, Field(ge=0, le=10)]
    absorption_rate: Literal["fast", "normal", "slow", "impaired"]


class DosageDeliveryEvent(Model):
    """3.24."""

    device_id: DeviceId
    substance_delivered: Text
    dosage_amount: float
    unit_of_measurement: Text
    delivery_timestamp: DateTime
    delivery_method: Literal["micro_needle", "transdermal", "iontophoresis", "ultrasonic"]
    delivery_rate: float | None = None
    delivery_pressure: float | None = None
    delivery_success: bool
    patient_response: PatientResponse | None = None
    reservoir_level_remaining: float | None = None


class PatientDemographics(Model):
    """Coarse facts about the patient."""

    age_group: Literal["pediatric", "adult", "geriatric"]
    gender: Literal["male", "female", "other", "not_specified"]
    medical_conditions: list[Text]


class AdverseEventReport(Model):
    """3.25."""

    device_id: DeviceId
    event_type: Literal[
        "skin_irritation", "allergic_reaction", "device_malfunction", "dosage_error", "infection", "other"
    ]
    severity: Literal["mild", "moderate", "severe", "life_threatening"]
    reporter_type: Literal["patient", "healthcare_provider", "caregiver", "manufacturer"]
    event_description: Text | None = None
    onset_time: DateTime
    resolution_time: DateTime | None = None
    medical_intervention_required: bool
    regulatory_reporting_required: bool
    batch_investigation_triggered: bool
    patient_demographics: PatientDemographics | None = None
